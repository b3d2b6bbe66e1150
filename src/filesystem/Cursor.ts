/**
 * An open directory that moves through a tree, name by name.
 *
 * The system resolves no path but one of a single name in a directory that is already open: a tree can be deeper than
 * the longest path, and nobody who swaps a directory for a link while it is visited leads the visit elsewhere.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { constants } from "node:fs"
import { type FileHandle, open as openFile } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { FileFailed } from "../protocol/Failure.js"
import type { NativePath } from "./NativePath.js"
import { attempt, close, type SystemError } from "./SystemError.js"

/** Opens a place in the tree and not what is there, so that it need not be readable. Node.js has no name for it. */
const O_PATH = 0o10000000

/** Which file or directory something is, whatever its name. */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
}

/** Whether two are one. */
export const isSame = (a: Identity, b: Identity): boolean => a.dev === b.dev && a.ino === b.ino

/** A directory at a time. */
export class Cursor {
  private known: Identity | undefined

  constructor(private handle: FileHandle) {}

  /** The path of a name in this directory; valid until the cursor moves. */
  at(name: Buffer | string): NativePath {
    return Buffer.concat([Buffer.from(`/proc/self/fd/${this.handle.fd}/`), Buffer.from(name)])
  }

  /** The path of this directory; valid until the cursor moves. */
  get here(): NativePath {
    return this.at(".")
  }

  /** Which directory this is. */
  readonly identity: Effect.Effect<Identity, SystemError> = Effect.suspend(() =>
    this.known === undefined
      ? Effect.tap(
          attempt(() => this.handle.stat({ bigint: true })),
          (found) => {
            this.known = { dev: found.dev, ino: found.ino }
          }
        )
      : Effect.succeed(this.known)
  )

  /** Enters a directory; a link to one is none (ENOTDIR). */
  down(name: Buffer): Effect.Effect<void, SystemError> {
    return this.move(() => this.at(name))
  }

  /** Goes back to the directory it came from, which must still be the one above. */
  up(expected: Identity): Effect.Effect<void, SystemError | FileFailed> {
    return Effect.flatMap(
      Effect.zipRight(
        this.move(() => this.at("..")),
        this.identity
      ),
      (found) =>
        isSame(found, expected)
          ? Effect.void
          : new FileFailed({ message: "a directory was moved elsewhere while the tree was visited" })
    )
  }

  close(): Effect.Effect<void> {
    return close(this.handle)
  }

  private move(path: () => NativePath): Effect.Effect<void, SystemError> {
    // Uninterruptible: what was opened is held, and what was held is closed.
    return Effect.uninterruptible(
      Effect.flatMap(
        attempt(() => openFile(path(), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW)),
        (handle) => {
          const before = this.handle
          this.handle = handle
          this.known = undefined
          return close(before)
        }
      )
    )
  }
}

/** A cursor at a directory; `follow` says whether the path may lead through a link at its end. */
export const open = (path: NativePath, follow: boolean): Effect.Effect<Cursor, SystemError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(
      attempt(() => openFile(path, O_PATH | constants.O_DIRECTORY | (follow ? 0 : constants.O_NOFOLLOW))),
      (handle) => new Cursor(handle)
    ),
    (cursor) => cursor.close()
  )

/** A cursor at the last but one of a path's names, reached through no link (ENOTDIR where there is one). */
export const openWithoutLinks = (names: ReadonlyArray<Buffer>): Effect.Effect<Cursor, SystemError, Scope.Scope> =>
  Effect.tap(open(Buffer.from("/"), false), (cursor) =>
    Effect.forEach(names.slice(0, -1), (name) => cursor.down(name), { discard: true })
  )
