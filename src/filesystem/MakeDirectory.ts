/**
 * Creates directories.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { lstat, mkdir, stat } from "node:fs/promises"
import * as Effect from "effect/Effect"
import * as Cursor from "./Cursor.js"
import { isRoot, type NativePath, names, parent } from "./NativePath.js"
import { attempt, type SystemError } from "./SystemError.js"

/** Whether a failure to create a directory is none: there already is one. */
const existsAnyway = (error: SystemError, look: () => Promise<{ readonly isDirectory: () => boolean }>) =>
  error.code !== "EEXIST"
    ? error
    : Effect.flatMap(Effect.option(attempt(look)), (found) =>
        found._tag === "Some" && found.value.isDirectory() ? Effect.void : error
      )

/** Creates a directory and those above it; they may exist. */
export const makeDirectories = (path: NativePath): Effect.Effect<void, SystemError> =>
  Effect.gen(function* () {
    // Up to the first that can be created, then down again.
    const missing: Array<NativePath> = []
    let current = path
    while (true) {
      const failed = yield* Effect.flip(attempt(() => mkdir(current))).pipe(Effect.option)
      if (failed._tag === "None") break
      if (failed.value.code === "ENOENT" && !isRoot(current)) {
        missing.push(current)
        current = parent(current)
        continue
      }
      const at = current
      yield* existsAnyway(failed.value, () => stat(at))
      break
    }
    for (const directory of missing.reverse()) {
      yield* Effect.catchAll(
        attempt(() => mkdir(directory)),
        (error) => existsAnyway(error, () => stat(directory))
      )
    }
  })

/** The same through no link; without `recursive`, only the last. */
const makeWithoutLinks = (path: NativePath, recursive: boolean): Effect.Effect<void, SystemError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const all = names(path)
      const make = (cursor: Cursor.Cursor, name: Buffer) =>
        Effect.catchAll(
          attempt(() => mkdir(cursor.at(name))),
          (error) => (recursive ? existsAnyway(error, () => lstat(cursor.at(name))) : error)
        )
      const cursor = yield* Cursor.openWithoutLinks(recursive ? all.slice(0, 1) : all)
      for (const name of recursive ? all.slice(0, -1) : []) {
        // Whatever keeps it from being created says less than what keeps it from being entered.
        yield* Effect.ignore(make(cursor, name))
        yield* cursor.down(name)
      }
      const last = all[all.length - 1]
      if (last !== undefined) yield* make(cursor, last)
    })
  )

/** Creates a directory; `recursive` with those above it, and it may exist. */
export const makeDirectory = (
  path: NativePath,
  recursive: boolean,
  followSymlinks: boolean
): Effect.Effect<void, SystemError> => {
  if (!followSymlinks) return makeWithoutLinks(path, recursive)
  return recursive ? makeDirectories(path) : Effect.asVoid(attempt(() => mkdir(path)))
}
