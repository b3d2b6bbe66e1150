/**
 * Finds the program of a child, by the child's own environment and directory. Whether it can be run is left to the
 * system.
 *
 * @since 0.1.0
 */
import { accessSync, constants, statSync } from "node:fs"
import { resolve } from "node:path"
import * as OsError from "../protocol/OsError.js"
import { type ChildSpec, SpawnError } from "./Child.js"

/** The search path of the C library when the environment has no PATH. */
const defaultPath = "/bin:/usr/bin"

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

/** The longest file name, in bytes. Longer names exist in no folder. */
const maxNameBytes = 255

/** The possible paths of a child's program, in order of preference. */
const candidatesOf = (name: string, spec: ChildSpec): ReadonlyArray<string> => {
  if (name.includes("/")) return [resolve(spec.cwd, name)]
  if (name.length > maxNameBytes) return []
  return (spec.env["PATH"] ?? defaultPath).split(":").map((folder) => resolve(spec.cwd, folder, name))
}

const locate = (candidates: ReadonlyArray<string>): string => {
  let reason = "ENOENT"
  for (const file of candidates) {
    const found = fault(file)
    if (found === undefined) return file
    if (found === "EACCES") reason = found
  }
  throw new SpawnError({ message: OsError.text(reason) })
}

/**
 * The absolute paths where a child's program may be: a name without a slash is looked up in the `PATH` of the child.
 * Accesses no file. For strings that cannot name a program, throws `SpawnError` with the texts of the original.
 */
export const candidates = (spec: ChildSpec): ReadonlyArray<string> => {
  const [name = ""] = spec.argv
  if (name === "") {
    throw new SpawnError({ message: `missing program for ${spec.io._tag === "Pty" ? "PTY" : "pipe"} spawn` })
  }
  const hasNul = (text: string) => text.includes("\0")
  if (spec.argv.some(hasNul) || hasNul(spec.arg0 ?? "")) {
    throw new SpawnError({ message: "nul byte found in provided data" })
  }
  if (Object.entries(spec.env).some(([variable, value]) => hasNul(variable) || hasNul(value))) {
    throw new SpawnError({ message: "data provided contains a nul byte" })
  }
  return candidatesOf(name, spec)
}

/**
 * The absolute path of a child's program. If there is none, or for strings that cannot name one, throws `SpawnError`
 * with the texts of the original.
 */
export const find = (spec: ChildSpec): string => {
  const all = candidates(spec)
  const [first = ""] = all
  return spec.argv[0]?.includes("/") === true ? first : locate(all)
}
