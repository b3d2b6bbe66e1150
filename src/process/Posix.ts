/**
 * The system calls of `native/posix.c`, and where its helper program lies.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { codeName } from "./OsError.js"

/** Every call returns a negative error number when it fails. */
interface Native {
  readonly pipe: () => readonly [readEnd: number, writeEnd: number] | number
  readonly closeOnExec: (fd: number) => number
  readonly onWritable: (fd: number, callback: () => void) => number
  readonly onExit: (pid: number, callback: (signal: number) => void) => number
  readonly cancel: (token: number) => number
}

const load = createRequire(import.meta.url)

// Sources, modules in dist/ and the bundled command lie at different depths: the package's own name finds its root.
const buildFolder = () => join(dirname(load.resolve("exec-server/package.json")), "src/native/build/Release")

let loaded: Native | undefined

const native = (): Native => {
  loaded ??= load(join(buildFolder(), "posix.node")) as Native
  return loaded
}

/** What a failed call of node:fs throws. */
const check = <A>(result: A | number): A | number => {
  if (typeof result !== "number" || result >= 0) return result
  const code = codeName(-result)
  throw Object.assign(new Error(`system call failed: ${code}`), { code })
}

/** The program that runs another one under a chosen `argv[0]`: `argv0 FILE ARG0 [ARG...]`. */
export const argv0Program = (): string => join(buildFolder(), "argv0")

/** A pipe, both ends closed on exec. Throws like node:fs. */
export const pipe = (): readonly [readEnd: number, writeEnd: number] =>
  check(native().pipe()) as readonly [number, number]

/** Keeps children from inheriting a descriptor. Throws like node:fs. */
export const closeOnExec = (fd: number): void => {
  check(native().closeOnExec(fd))
}

/** Calls back once, later, when a descriptor takes more or has failed; gives what cancels that. Throws like node:fs. */
export const onWritable = (fd: number, callback: () => void): (() => void) => {
  const token = native().onWritable(fd, callback)
  check(token)
  return () => {
    native().cancel(token)
  }
}

/**
 * Tells when a child of ours has ended, before Node.js does, and the number of the signal that killed it; 0 if none
 * did, or it could not be found out. Not at all where there is no pidfd_open(2), or no descriptor left.
 */
export const onExit = (pid: number, callback: (signal: number) => void): void => {
  native().onExit(pid, callback)
}
