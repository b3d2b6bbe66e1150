/**
 * Finds the program before anything is forked, so that a missing one is an error and never an exit code.
 *
 * @since 0.1.0
 */
import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs"
import { resolve } from "node:path"
import { type ChildSpec, SpawnError } from "./Child.js"
import * as OsError from "./OsError.js"

/** Where the C library looks when the environment has no PATH. */
const defaultPath = "/bin:/usr/bin"

/** Linux's limit for one argument or variable (MAX_ARG_STRLEN), with its final NUL. */
const maxStringBytes = 131072

/** Linux's limit for all arguments and variables together, with their pointers, under the usual 8 MiB of stack. */
const maxTotalBytes = 2097152 - 4096

/** How much of a script's first line the kernel reads (BINPRM_BUF_SIZE). */
const shebangBytes = 256

const fail = (code: string): never => {
  throw new SpawnError({ message: OsError.text(code) })
}

const stat = (path: string) => {
  try {
    return statSync(path)
  } catch (error) {
    return fail(OsError.codeOf(error) ?? "EIO")
  }
}

const checkDirectory = (cwd: string) => {
  if (!stat(cwd).isDirectory()) fail("ENOTDIR")
  try {
    accessSync(cwd, constants.X_OK)
  } catch (error) {
    fail(OsError.codeOf(error) ?? "EACCES")
  }
}

/** Why a file cannot be executed, or undefined if it can. */
const fault = (file: string): string | undefined => {
  try {
    const found = statSync(file, { throwIfNoEntry: false })
    if (found === undefined) return "ENOENT"
    if (!found.isFile()) return "EACCES"
    accessSync(file, constants.X_OK)
    return undefined
  } catch (error) {
    return OsError.codeOf(error) ?? "EACCES"
  }
}

/** The interpreter that a script names in its first line. */
const interpreter = (file: string): string | undefined => {
  let fd: number
  try {
    fd = openSync(file, "r")
  } catch {
    // Executable but not readable: the kernel knows better.
    return undefined
  }
  try {
    const head = Buffer.allocUnsafe(shebangBytes)
    const line = head.toString("latin1", 0, readSync(fd, head)).split("\n", 1)[0] ?? ""
    return /^#![ \t]*([^ \t\r]+)/.exec(line)?.[1]
  } finally {
    closeSync(fd)
  }
}

const locate = (name: string, spec: ChildSpec): string => {
  if (name.includes("/")) {
    const file = resolve(spec.cwd, name)
    const reason = fault(file)
    return reason === undefined ? file : fail(reason)
  }
  let reason = "ENOENT"
  for (const folder of (spec.env["PATH"] ?? defaultPath).split(":")) {
    const file = resolve(spec.cwd, folder, name)
    const found = fault(file)
    if (found === undefined) return file
    if (found === "EACCES") reason = found
  }
  return fail(reason)
}

/**
 * Checks working directory and program in the child's own terms and returns the program's absolute path. Throws
 * `SpawnError` with the texts of the original.
 */
export const find = (spec: ChildSpec): string => {
  const [name = ""] = spec.argv
  const isPty = spec.io._tag === "Pty"
  if (name === "") throw new SpawnError({ message: `missing program for ${isPty ? "PTY" : "pipe"} spawn` })
  const strings = [...spec.argv, spec.arg0 ?? ""]
  if (strings.some((text) => text.includes("\0"))) throw new SpawnError({ message: "nul byte found in provided data" })
  for (const [variable, value] of Object.entries(spec.env)) {
    if (variable.includes("\0") || value.includes("\0")) {
      throw new SpawnError({ message: "data provided contains a nul byte" })
    }
    strings.push(`${variable}=${value}`)
  }
  // node-pty would hide the kernel's own answer.
  if (isPty && strings.reduce((sum, text) => sum + Buffer.byteLength(text) + 9, 0) > maxTotalBytes) fail("E2BIG")
  if (strings.some((text) => text.length * 3 >= maxStringBytes && Buffer.byteLength(text) >= maxStringBytes)) {
    fail("E2BIG")
  }
  checkDirectory(spec.cwd)
  const file = locate(name, spec)
  // A pipe's spawn reports a failed exec; node-pty's does not.
  if (isPty) {
    const script = interpreter(file)
    if (script !== undefined) {
      const reason = fault(resolve(spec.cwd, script))
      if (reason !== undefined) fail(reason)
    }
  }
  return file
}
