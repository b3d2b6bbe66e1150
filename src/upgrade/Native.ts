/**
 * The system calls of `native/upgrade.c`. The module is loaded on first use.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { createRequire } from "node:module"
import { join } from "node:path"
import * as Package from "../internal/Package.js"
import * as OsError from "../protocol/OsError.js"

/** A program that this process becomes: its file, its arguments, what it continues, and the descriptors it gets. */
export interface Successor {
  readonly file: string
  readonly argv: ReadonlyArray<string>
  /** The value of `EXEC_SERVER_HANDOVER`, besides the environment of this process. */
  readonly handover: string
  /** Besides 0, 1 and 2. */
  readonly kept: ReadonlyArray<number>
}

/** Every call returns a negative error number on failure. */
interface Calls {
  readonly memory: (name: string) => number
  readonly duplicate: (fd: number) => number
  readonly secret: (bytes: Buffer) => number
  readonly peek: (fd: number) => Buffer | number
  readonly exec: (file: string, argv: ReadonlyArray<string>, handover: string, kept: ReadonlyArray<number>) => number
  readonly leaveSignals: () => number
  readonly takeSignals: () => number
}

let loaded: Calls | undefined

const calls = (): Calls => {
  if (loaded !== undefined) return loaded
  const path = join(Package.root, "src/spawn/native/build/Release/upgrade.node")
  try {
    loaded = createRequire(import.meta.url)(path) as Calls
    return loaded
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split("\n")
    throw new Error(`the native module ${path} cannot be loaded: ${reason}; run npm rebuild in ${Package.root}`, {
      cause
    })
  }
}

const failure = (result: number): Error => {
  const code = OsError.codeName(-result)
  return Object.assign(new Error(`system call failed: ${code}`), { code })
}

/** Throws for a negative result, with the same `code` as node:fs. */
const check = (result: number): number => {
  if (result < 0) throw failure(result)
  return result
}

/** A file without a name, closed on exec. Throws like node:fs. */
export const memory = (name: string): number => check(calls().memory(name))

/** A duplicate of a descriptor, closed on exec. Throws like node:fs. */
export const duplicate = (fd: number): number => check(calls().duplicate(fd))

/** A socket that holds these bytes, at most 128 KiB, and that no other process can open. Throws like node:fs. */
export const secret = (bytes: Buffer): number => check(calls().secret(bytes))

/** The bytes that such a socket holds. They stay there. Throws like node:fs. */
export const peek = (fd: number): Buffer => {
  const found = calls().peek(fd)
  if (typeof found === "number") throw failure(found)
  return found
}

/** Gives SIGTERM and SIGINT their default action. */
export const leaveSignals = (): void => {
  calls().leaveSignals()
}

/** Undoes `leaveSignals`. */
export const takeSignals = (): void => {
  calls().takeSignals()
}

/** Executes a program in this process. Throws like node:fs if that is not possible; nothing has changed then. */
export const exec = ({ file, argv, handover, kept }: Successor): never => {
  throw failure(calls().exec(file, argv, handover, kept))
}
