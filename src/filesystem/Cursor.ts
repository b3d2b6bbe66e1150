/**
 * An open directory that moves through a tree one name at a time.
 *
 * Every path the kernel resolves is a single name relative to an open directory (through /proc/self/fd). So a tree may
 * be deeper than PATH_MAX, and replacing a directory by a link during the visit cannot redirect it.
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

/** O_PATH of open(2): a descriptor of the path only, which needs no read permission. Node.js has no constant for it. */
export const O_PATH = 0o10000000

/** The identity of a file or directory: device and inode number. */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
}

/** Whether two identities are the same file. */
export const isSame = (a: Identity, b: Identity): boolean => a.dev === b.dev && a.ino === b.ino

/** The current directory of a tree walk. */
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

  /** The identity of this directory. */
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

  /** Enters a subdirectory. Links are not followed (ENOTDIR). */
  down(name: Buffer): Effect.Effect<void, SystemError> {
    return this.move(() => this.at(name))
  }

  /** Returns to the parent directory; fails if it is not `expected`, because a directory was moved. */
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
    // Uninterruptible, so that neither descriptor leaks.
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

/** Opens a cursor at a directory. `follow`: whether the last component may be a link. */
export const open = (path: NativePath, follow: boolean): Effect.Effect<Cursor, SystemError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(
      attempt(() => openFile(path, O_PATH | constants.O_DIRECTORY | (follow ? 0 : constants.O_NOFOLLOW))),
      (handle) => new Cursor(handle)
    ),
    (cursor) => cursor.close()
  )

/** Opens a cursor at the parent directory of a path without following any link (ENOTDIR if there is one). */
export const openWithoutLinks = (names: ReadonlyArray<Buffer>): Effect.Effect<Cursor, SystemError, Scope.Scope> =>
  Effect.tap(open(Buffer.from("/"), false), (cursor) =>
    Effect.forEach(names.slice(0, -1), (name) => cursor.down(name), { discard: true })
  )
