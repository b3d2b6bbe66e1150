/**
 * The system calls of `native/posix.c`, and where its helper program lies.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { codeName } from "./OsError.js"

interface Native {
  readonly pipe: () => readonly [readEnd: number, writeEnd: number] | number
  readonly closeOnExec: (fd: number) => number
}

const load = createRequire(import.meta.url)

// Sources, modules in dist/ and the bundled command lie at different depths: the package's own name finds its root.
const buildFolder = () => join(dirname(load.resolve("exec-server/package.json")), "src/native/build/Release")

let loaded: Native | undefined

const native = (): Native => {
  loaded ??= load(join(buildFolder(), "posix.node")) as Native
  return loaded
}

/** The program that runs another one under a chosen `argv[0]`: `argv0 FILE ARG0 [ARG...]`. */
export const argv0Program = (): string => join(buildFolder(), "argv0")

const failed = (errno: number) =>
  Object.assign(new Error(`system call failed: ${codeName(errno)}`), { code: codeName(errno) })

/** A pipe, both ends closed on exec. Throws what a failed call of node:fs throws. */
export const pipe = (): readonly [readEnd: number, writeEnd: number] => {
  const ends = native().pipe()
  if (typeof ends === "number") throw failed(-ends)
  return ends
}

/** Keeps children from inheriting a descriptor. */
export const closeOnExec = (fd: number): void => {
  const result = native().closeOnExec(fd)
  if (result !== 0) throw failed(-result)
}
