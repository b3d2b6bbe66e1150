/**
 * Removes files and trees.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { lstat, rmdir, unlink } from "node:fs/promises"
import * as Effect from "effect/Effect"
import { FileFailed, FileRefused } from "../protocol/Failure.js"
import * as Cursor from "./Cursor.js"
import * as Listing from "./Listing.js"
import { isRoot, type NativePath, names } from "./NativePath.js"
import { attempt, attemptUnless, type FileError, type SystemError } from "./SystemError.js"

/** How to remove. */
export interface RemoveOptions {
  /** A directory with all that is in it. */
  readonly recursive: boolean
  /** Nothing there is no error. */
  readonly force: boolean
  readonly followSymlinks: boolean
}

/** How many names are removed at a time; the system has four threads for files. */
const concurrency = 4

/** How much is listed of a directory before it is removed and the rest is listed, in bytes. */
const listBytes = 1048576

/** A directory on the way down, and what is left to remove in it. */
interface Frame {
  readonly name: Buffer
  /** The directory it is in. */
  readonly above: Cursor.Identity
  left: Array<Buffer>
  complete: boolean
}

/** Removes what is no directory; gives the names of those that are, as far as they were listed. */
const clear = (cursor: Cursor.Cursor, frame: Frame): Effect.Effect<void, SystemError> =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(cursor.here, listBytes)
    frame.left = entries.flatMap(({ name, kind }) => (kind === "directory" ? [name] : []))
    frame.complete = complete
    yield* Effect.forEach(
      entries,
      ({ name, kind }) =>
        // Somebody else may be removing the same tree.
        kind === "directory" ? Effect.void : attemptUnless("ENOENT", () => unlink(cursor.at(name))),
      { concurrency, discard: true }
    )
  })

const removeTree = (path: NativePath): Effect.Effect<void, SystemError | FileError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const cursor = yield* Cursor.open(path, false)
      const enter = (name: Buffer, above: Cursor.Identity) =>
        Effect.gen(function* () {
          const frame: Frame = { name, above, left: [], complete: true }
          stack.push(frame)
          yield* clear(cursor, frame)
        })
      const stack: Array<Frame> = []
      yield* enter(path, yield* cursor.identity)
      while (true) {
        const frame = stack[stack.length - 1]
        if (frame === undefined) break
        const name = frame.left.pop()
        if (name !== undefined) {
          const above = yield* cursor.identity
          yield* cursor.down(name)
          yield* enter(name, above)
        } else if (!frame.complete) yield* clear(cursor, frame)
        else {
          stack.pop()
          if (stack.length === 0) break
          yield* cursor.up(frame.above)
          yield* attemptUnless("ENOENT", () => rmdir(cursor.at(frame.name)))
        }
      }
    })
  ).pipe(Effect.zipRight(attemptUnless("ENOENT", () => rmdir(path))))

const removeAt = (path: NativePath, recursive: boolean, mayBeLink: boolean) =>
  Effect.flatMap(
    attempt(() => lstat(path)),
    (found): Effect.Effect<void, SystemError | FileError> => {
      if (!mayBeLink && found.isSymbolicLink()) return new FileRefused({ message: "path contains a symbolic link" })
      if (!found.isDirectory()) return attempt(() => unlink(path))
      return recursive ? removeTree(path) : attempt(() => rmdir(path))
    }
  )

/** Removes a file, a link itself, or a directory. */
export const remove = (
  path: NativePath,
  { recursive, force, followSymlinks }: RemoveOptions
): Effect.Effect<void, SystemError | FileError> => {
  if (isRoot(path)) return new FileRefused({ message: "the root directory is not removed" })
  if (!followSymlinks && recursive) return new FileFailed({ message: "recursive no-follow removal is unsupported" })
  const removed = followSymlinks
    ? removeAt(path, recursive, true)
    : Effect.scoped(
        Effect.flatMap(Cursor.openWithoutLinks(names(path)), (cursor) =>
          removeAt(cursor.at(names(path).at(-1) ?? "."), recursive, false)
        )
      )
  return Effect.catchIf(
    removed,
    (error) => force && error._tag === "SystemError" && error.code === "ENOENT",
    () => Effect.void
  )
}
