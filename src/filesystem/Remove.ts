/**
 * Removes files and directory trees.
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

/** Options of `remove`. */
export interface RemoveOptions {
  /** Remove a directory and everything in it. */
  readonly recursive: boolean
  /** Ignore a missing path. */
  readonly force: boolean
  readonly followSymlinks: boolean
}

/** Names removed concurrently; Node.js has four threads for file operations. */
const concurrency = 4

/** The memory limit of one listing, in bytes. Larger directories are listed and removed in several rounds. */
const listBytes = 1048576

/** A directory on the current path, and what is left to remove in it. */
interface Frame {
  readonly name: Buffer
  /** The identity of its parent. */
  readonly above: Cursor.Identity
  /** Subdirectories that are not removed yet. */
  left: Array<Buffer>
  /** Whether the last listing was complete. */
  complete: boolean
}

/** Lists a directory into `frame` and removes what is not a directory. */
const clear = (cursor: Cursor.Cursor, frame: Frame): Effect.Effect<void, SystemError> =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(cursor.here, listBytes)
    frame.left = entries.flatMap(({ name, kind }) => (kind === "directory" ? [name] : []))
    frame.complete = complete
    yield* Effect.forEach(
      entries,
      ({ name, kind }) =>
        // ENOENT: another process may be removing the same tree.
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

/** Removes a file, a link (not its target) or a directory. */
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
