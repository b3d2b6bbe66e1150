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

/** Recovers from EEXIST if the existing file is a directory. */
const acceptExisting = (error: SystemError, look: () => Promise<{ readonly isDirectory: () => boolean }>) =>
  error.code !== "EEXIST"
    ? error
    : Effect.flatMap(Effect.option(attempt(look)), (found) =>
        found._tag === "Some" && found.value.isDirectory() ? Effect.void : error
      )

/** Creates a directory and its missing parents; existing directories are accepted. */
export const makeDirectories = (path: NativePath): Effect.Effect<void, SystemError> =>
  Effect.gen(function* () {
    // Climb to the first directory that can be created, then create the missing ones below it.
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
      yield* acceptExisting(failed.value, () => stat(at))
      break
    }
    for (const directory of missing.reverse()) {
      yield* Effect.catchAll(
        attempt(() => mkdir(directory)),
        (error) => acceptExisting(error, () => stat(directory))
      )
    }
  })

/** Creates a directory without following links; without `recursive`, its parents must exist. */
const makeWithoutLinks = (path: NativePath, recursive: boolean): Effect.Effect<void, SystemError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const all = names(path)
      const make = (cursor: Cursor.Cursor, name: Buffer) =>
        Effect.catchAll(
          attempt(() => mkdir(cursor.at(name))),
          (error) => (recursive ? acceptExisting(error, () => lstat(cursor.at(name))) : error)
        )
      const cursor = yield* Cursor.openWithoutLinks(recursive ? all.slice(0, 1) : all)
      for (const name of recursive ? all.slice(0, -1) : []) {
        // If both fail, the error of entering the directory tells more.
        yield* Effect.ignore(make(cursor, name))
        yield* cursor.down(name)
      }
      const last = all[all.length - 1]
      if (last !== undefined) yield* make(cursor, last)
    })
  )

/** Creates a directory. `recursive` also creates missing parents and accepts an existing directory. */
export const makeDirectory = (
  path: NativePath,
  recursive: boolean,
  followSymlinks: boolean
): Effect.Effect<void, SystemError> => {
  if (!followSymlinks) return makeWithoutLinks(path, recursive)
  return recursive ? makeDirectories(path) : Effect.asVoid(attempt(() => mkdir(path)))
}
