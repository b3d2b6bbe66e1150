/**
 * Checks file names in a server's responses. Servers are not trusted: a name with several components, or a path outside
 * of the requested directory, could lead to any other file.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { posix } from "node:path"
import * as Either from "effect/Either"
import { maxWalk, type WalkEntry } from "../protocol/FileSystemApi.js"
import * as PathUri from "../protocol/PathUri.js"
import { clip } from "../protocol/Schemas.js"

/** Whether this is a valid name in a directory: one component, neither `.` nor `..`. */
export const isName = (name: string): boolean => name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name)

/** Quotes a server's text in a message, on one line. */
export const quote = (text: string): string => JSON.stringify(clip(text))

// As latin1, one character per byte: names need not be UTF-8.
const pathOf = (text: string): string | undefined =>
  Either.getOrUndefined(PathUri.parseBytes(text))?.bytes.toString("latin1")

/** The path of a requested directory, without `.`, `..` and a trailing slash. */
const rootOf = (text: string): string | undefined => {
  const path = pathOf(text)
  return path === undefined ? undefined : posix.normalize(path).replace(/\/+$/, "")
}

/** The names, as latin1, that lead from a directory to a path below it; undefined for other paths. */
const namesBelow = (root: string, text: string): ReadonlyArray<string> | undefined => {
  const path = pathOf(text)
  if (path === undefined || !path.startsWith(`${root}/`)) return undefined
  const names = path.slice(root.length + 1).split("/")
  return names.every(isName) ? names : undefined
}

/** The replacement of invalid UTF-8 in a plain path. Different names may look the same. */
const replaced = Buffer.from("\ufffd").toString("latin1")

/** An entry of a walk, and the names that lead to it from the root of the walk. */
export interface Listed extends WalkEntry {
  readonly names: ReadonlyArray<Buffer>
}

/**
 * Checks the entries that a server lists below a directory. Fails with a sentence if an entry is outside of it, too
 * deep, listed twice, or in an unlisted directory.
 */
export const check = (
  directory: string,
  entries: ReadonlyArray<WalkEntry>,
  maxDepth: number = maxWalk.maxDepth
): Either.Either<ReadonlyArray<Listed>, string> => {
  const root = rootOf(directory)
  const listed: Array<Listed> = []
  const kinds = new Map<string, WalkEntry["kind"]>()
  const parents = new Map<string, string>()
  for (const { path, kind } of entries) {
    const names = root === undefined ? undefined : namesBelow(root, path)
    if (names === undefined)
      return Either.left(`the server lists ${quote(path)}, which is not below ${quote(directory)}`)
    if (names.length > maxDepth + 1)
      return Either.left(`the server lists ${quote(path)}, below ${maxDepth} directories`)
    const key = names.join("/")
    if (kinds.has(key) && !key.includes(replaced)) return Either.left(`the server lists ${quote(path)} twice`)
    if (kinds.get(key) !== "directory") kinds.set(key, kind)
    if (names.length > 1) parents.set(names.slice(0, -1).join("/"), path)
    listed.push({ path, kind, names: names.map((name) => Buffer.from(name, "latin1")) })
  }
  const [, orphan] = Array.from(parents).find(([key]) => kinds.get(key) !== "directory") ?? []
  return orphan === undefined
    ? Either.right(listed)
    : Either.left(`the server lists ${quote(orphan)}, but no directory that it is in`)
}
