/**
 * Open regular files. Other types are refused: a pipe or a device can block forever, and merely opening it can have
 * side effects.
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
import { attempt, close, type FileError, mapToFileError, ofCode, type SystemError } from "./SystemError.js"

/** The most bytes of one read or write call, so that large files do not starve other operations. */
const pieceBytes = 1048576

/**
 * How to open a file: `read` it, or `replace` it (create or truncate, then write).
 *
 * @category models
 */
export type Mode = "read" | "replace"

/**
 * An open file; the scope it was opened in closes it.
 *
 * @category models
 */
export interface OpenFile {
  /** The size when it was opened, in bytes. */
  readonly size: number
  /** Reads to the end of the file, even if it grows meanwhile; refused if that exceeds `limit` bytes. */
  readonly readAll: (limit: number) => Effect.Effect<Buffer, FileError>
  /** Reads up to `length` bytes at an offset; fewer only at the end of the file. */
  readonly read: (offset: number, length: number) => Effect.Effect<Buffer, FileError>
  /** Writes all bytes at an offset. */
  readonly write: (offset: number, bytes: Buffer) => Effect.Effect<void, FileError>
}

/**
 * The refusal of a path that is not a regular file.
 *
 * @category constants
 */
export const notAFile = (path: NativePath): FileRefused =>
  new FileRefused({ message: `path ${quote(path)} is not a file` })

const tooLarge = (limit: number) => new FileRefused({ message: `file is too large to read: limit is ${limit} bytes` })

/** Reads into `target` until it is full or the file ends; returns the number of bytes read. */
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
    // One byte more than the size detects the end without another read. Files in /proc and /sys report size 0.
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

/** Refuses offsets beyond 2^53, which a number does not hold exactly. No file system has files of that size. */
const checkOffset = (offset: number): Effect.Effect<void, SystemError> =>
  Number.isSafeInteger(offset) ? Effect.void : ofCode("EINVAL")

const make = (handle: FileHandle, size: number): OpenFile => ({
  size,
  readAll: (limit) => mapToFileError(readAll(handle, size, limit)),
  read: (offset, length) =>
    mapToFileError(
      Effect.suspend(() => {
        const target = Buffer.allocUnsafe(length)
        return Effect.zipRight(checkOffset(offset), fill(handle, target, offset)).pipe(
          Effect.map((filled) => target.subarray(0, filled))
        )
      })
    ),
  write: (offset, bytes) => mapToFileError(Effect.zipRight(checkOffset(offset), writeAll(handle, offset, bytes)))
})

// O_NONBLOCK: if a pipe replaced the file since it was checked, open(2) must not block.
const base = constants.O_NONBLOCK | constants.O_NOCTTY
const flags: { readonly [mode in Mode | "keep"]: number } = {
  read: base | constants.O_RDONLY,
  replace: base | constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC,
  keep: base | constants.O_WRONLY | constants.O_CREAT
}

/**
 * An open regular file and its metadata.
 *
 * @category models
 */
export interface RegularFile {
  readonly handle: FileHandle
  readonly found: BigIntStats
}

/**
 * Options for opening a regular file.
 *
 * @category models
 */
export interface OpenOptions {
  /** Further flags of open(2). */
  readonly flags?: number
  /** The permissions of a created file, before the umask. */
  readonly permissions?: number
  /** The path to name in messages, if it is not the one that is opened. */
  readonly displayPath?: NativePath
}

/**
 * Opens a path that was just seen to be a regular file or missing; refused if that has changed.
 *
 * @category constructors
 */
export const openKnown = (
  path: NativePath,
  mode: Mode | "keep",
  { flags: more = 0, permissions = 0o666, displayPath = path }: OpenOptions = {}
): Effect.Effect<RegularFile, SystemError | FileRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const handle = yield* Effect.acquireRelease(
      attempt(() => openHandle(path, flags[mode] | more, permissions)),
      close
    )
    const found = yield* attempt(() => handle.stat({ bigint: true }))
    return found.isFile() ? { handle, found } : yield* notAFile(displayPath)
  })

/**
 * Opens a regular file, following links. Other types are refused without being opened. `keep` opens for writing without
 * truncating.
 *
 * @category constructors
 */
export const openRegular = (
  path: NativePath,
  mode: Mode | "keep",
  options: OpenOptions = {}
): Effect.Effect<RegularFile, SystemError | FileRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const found = yield* Effect.option(attempt(() => stat(path)))
    if (found._tag === "Some" && !found.value.isFile()) {
      // The system's own error for writing to a directory.
      return yield* mode !== "read" && found.value.isDirectory()
        ? ofCode("EISDIR")
        : notAFile(options.displayPath ?? path)
    }
    return yield* openKnown(path, mode, options)
  })

/**
 * Opens a regular file, following links.
 *
 * @category constructors
 */
export const open = (
  path: NativePath,
  mode: Mode,
  options: OpenOptions = {}
): Effect.Effect<OpenFile, SystemError | FileRefused, Scope.Scope> =>
  Effect.map(openRegular(path, mode, options), ({ handle, found }) => make(handle, Number(found.size)))
