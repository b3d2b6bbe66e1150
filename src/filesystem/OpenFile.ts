/**
 * Regular files, open for reading or for writing. Nothing else is opened: a pipe or a device might never answer, and
 * opening it alone can change what it does.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { type BigIntStats, constants } from "node:fs"
import { type FileHandle, open as openHandle, stat } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { FileRefused } from "../protocol/Failure.js"
import { type NativePath, quote } from "./NativePath.js"
import { attempt, close, type FileError, ofCode, type SystemError, told } from "./SystemError.js"

/** How much one system call reads or writes, in bytes: little enough that others get their turn at the disk. */
const pieceBytes = 1048576

/** How to open a file: `read` it, or `replace` its content, creating it if need be. */
export type Mode = "read" | "replace"

/** An open file. Its end is that of a scope. */
export interface OpenFile {
  /** In bytes, when it was opened. */
  readonly size: number
  /** The whole content, also of a file that grows meanwhile; refused where that is more than `limit` bytes. */
  readonly readAll: (limit: number) => Effect.Effect<Buffer, FileError>
  /** As many bytes as there are at an offset, at most `length`. */
  readonly read: (offset: number, length: number) => Effect.Effect<Buffer, FileError>
  /** Writes all of it, or fails. */
  readonly write: (offset: number, bytes: Buffer) => Effect.Effect<void, FileError>
}

/** A path leads to something that has no content to read or write. */
export const notAFile = (path: NativePath): FileRefused =>
  new FileRefused({ message: `path ${quote(path)} is not a file` })

const tooLarge = (limit: number) => new FileRefused({ message: `file is too large to read: limit is ${limit} bytes` })

/** Fills a target from an offset of the file; gives the number of bytes there were. */
const fill = (handle: FileHandle, target: Buffer, offset: number): Effect.Effect<number, SystemError> =>
  Effect.gen(function* () {
    let filled = 0
    while (filled < target.length) {
      const length = Math.min(pieceBytes, target.length - filled)
      const { bytesRead } = yield* attempt(() => handle.read(target, filled, length, offset + filled))
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return filled
  })

const readAll = (handle: FileHandle, size: number, limit: number): Effect.Effect<Buffer, SystemError | FileRefused> =>
  Effect.gen(function* () {
    if (size > limit) return yield* tooLarge(limit)
    const pieces: Array<Buffer> = []
    let total = 0
    // One byte more than it has finds the end without another round; files of the system's own say they have none.
    let next = size === 0 ? 65536 : size + 1
    while (true) {
      const piece = Buffer.allocUnsafe(next)
      const filled = yield* fill(handle, piece, total)
      pieces.push(piece.subarray(0, filled))
      total += filled
      if (total > limit) return yield* tooLarge(limit)
      if (filled < piece.length) return pieces.length === 1 ? (pieces[0] ?? piece) : Buffer.concat(pieces, total)
      next = pieceBytes
    }
  })

const writeAll = (handle: FileHandle, offset: number, bytes: Buffer): Effect.Effect<void, SystemError> =>
  Effect.gen(function* () {
    let written = 0
    while (written < bytes.length) {
      const length = Math.min(pieceBytes, bytes.length - written)
      const { bytesWritten } = yield* attempt(() => handle.write(bytes, written, length, offset + written))
      written += bytesWritten
    }
  })

/** Offsets beyond this are not exact any more; no file system has files of that size. */
const checkOffset = (offset: number): Effect.Effect<void, SystemError> =>
  Number.isSafeInteger(offset) ? Effect.void : ofCode("EINVAL")

const make = (handle: FileHandle, size: number): OpenFile => ({
  size,
  readAll: (limit) => told(readAll(handle, size, limit)),
  read: (offset, length) =>
    told(
      Effect.suspend(() => {
        const target = Buffer.allocUnsafe(length)
        return Effect.zipRight(checkOffset(offset), fill(handle, target, offset)).pipe(
          Effect.map((filled) => target.subarray(0, filled))
        )
      })
    ),
  write: (offset, bytes) => told(Effect.zipRight(checkOffset(offset), writeAll(handle, offset, bytes)))
})

// Non-blocking, should something else have taken the file's place since it was looked at.
const base = constants.O_NONBLOCK | constants.O_NOCTTY
const flags: { readonly [mode in Mode | "keep"]: number } = {
  read: base | constants.O_RDONLY,
  replace: base | constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC,
  keep: base | constants.O_WRONLY | constants.O_CREAT
}

/** A handle on a regular file, and what the system knows of it. */
export interface Regular {
  readonly handle: FileHandle
  readonly found: BigIntStats
}

/** How a regular file is opened beyond its mode. */
export interface RegularOptions {
  readonly flags?: number
  /** Those of a file that is created; the umask is taken off. */
  readonly permissions?: number
  /** The path that messages name. */
  readonly shown?: NativePath
}

/** Opens a path that is known to lead to a regular file, or to nothing; refused, if that is not so any more. */
export const openKnown = (
  path: NativePath,
  mode: Mode | "keep",
  { flags: more = 0, permissions = 0o666, shown = path }: RegularOptions = {}
): Effect.Effect<Regular, SystemError | FileRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const handle = yield* Effect.acquireRelease(
      attempt(() => openHandle(path, flags[mode] | more, permissions)),
      close
    )
    const found = yield* attempt(() => handle.stat({ bigint: true }))
    return found.isFile() ? { handle, found } : yield* notAFile(shown)
  })

/**
 * Opens the regular file a path leads to; other things are refused without being opened. `keep` opens for writing and
 * leaves the content as it is.
 */
export const openRegular = (
  path: NativePath,
  mode: Mode | "keep",
  options: RegularOptions = {}
): Effect.Effect<Regular, SystemError | FileRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const found = yield* Effect.option(attempt(() => stat(path)))
    if (found._tag === "Some" && !found.value.isFile()) {
      // The system's own answer to writing into a directory.
      return yield* mode !== "read" && found.value.isDirectory() ? ofCode("EISDIR") : notAFile(options.shown ?? path)
    }
    return yield* openKnown(path, mode, options)
  })

/** Opens the regular file a path leads to. */
export const open = (
  path: NativePath,
  mode: Mode,
  options: RegularOptions = {}
): Effect.Effect<OpenFile, SystemError | FileRefused, Scope.Scope> =>
  Effect.map(openRegular(path, mode, options), ({ handle, found }) => make(handle, Number(found.size)))
