/**
 * Copies files, symbolic links and directory trees.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { type BigIntStats, constants } from "node:fs"
import { type FileHandle, lstat, mkdir, readlink, realpath, stat, symlink } from "node:fs/promises"
import * as Effect from "effect/Effect"
import { FileRefused } from "../protocol/Failure.js"
import * as Cursor from "./Cursor.js"
import * as Holes from "./Holes.js"
import * as Listing from "./Listing.js"
import { makeDirectories } from "./MakeDirectory.js"
import { isRoot, type NativePath, parent } from "./NativePath.js"
import { openKnown, openRegular } from "./OpenFile.js"
import { attempt, type FileError, ofCode, type SystemError } from "./SystemError.js"

type Failure = SystemError | FileError

/** The size of the copy buffer, in bytes. */
const pieceBytes = 1048576

/** The same for a file without a size, in bytes. */
const kernelPieceBytes = 65536

/** Files copied concurrently; Node.js has four threads for file operations. */
const concurrency = 4

/** The memory limit of a directory listing, in bytes; about half a million names. */
const listBytes = 100_000_000

const identityOf = (path: NativePath) => attempt(() => stat(path, { bigint: true }))

/**
 * Copies the content of a file to an empty one in pieces, so that it can be interrupted between two of them. If the
 * source has holes, these are skipped, and blocks of zeros are not written.
 */
const copyContent = (from: FileHandle, to: FileHandle, { size, blocks }: BigIntStats): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const isSparse = blocks * 512n < size
    const write = isSparse ? Holes.writeSparse : Holes.writeAll
    // Files of the kernel have no size, and give their content in parts.
    const isOfKernel = size === 0n
    const piece = Buffer.allocUnsafe(isOfKernel ? kernelPieceBytes : Math.min(pieceBytes, Number(size) + 1))
    let position = 0
    let bytesRead = piece.length
    // A short read of any other file means end of file.
    while (bytesRead === piece.length || (isOfKernel && bytesRead > 0)) {
      if (isSparse) {
        const next = yield* Effect.uninterruptible(attempt(() => Holes.nextData(from, position)))
        if (next === undefined) {
          position = Math.max(position, Number(size))
          break
        }
        position = next
      }
      // Uninterruptible: a descriptor must not be closed, and its number used again, under a call.
      bytesRead = yield* Effect.uninterruptible(
        attempt(async () => {
          const read = await from.read(piece, 0, piece.length, position)
          await write(to, piece.subarray(0, read.bytesRead), position)
          return read.bytesRead
        })
      )
      position += bytesRead
    }
    if (isSparse) yield* attempt(() => to.truncate(position))
  })

/** Copies the content and the mode of a regular file. */
const copyFile = (source: NativePath, destination: NativePath, displayPath: NativePath): Effect.Effect<void, Failure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { handle: from, found } = yield* openKnown(source, "read", { flags: constants.O_NOFOLLOW })
      const permissions = Number(found.mode & 0o7777n)
      // Open without truncating: the destination may be the source.
      const { handle: to, found: old } = yield* openRegular(destination, "keep", { permissions, displayPath })
      if (Cursor.isSame(found, old)) return yield* new FileRefused({ message: "fs/copy cannot copy a file to itself" })
      if (old.size > 0n) yield* attempt(() => to.truncate(0))
      yield* copyContent(from, to, found)
      if (old.mode !== found.mode) yield* attempt(() => to.chmod(permissions))
    })
  )

const copyLink = (source: NativePath, destination: NativePath): Effect.Effect<void, SystemError> =>
  Effect.flatMap(
    attempt(() => readlink(source, { encoding: "buffer" })),
    (target) => attempt(() => symlink(target, destination))
  )

const exists = (path: NativePath): Effect.Effect<boolean, SystemError> =>
  attempt(() => stat(path)).pipe(
    Effect.as(true),
    Effect.catchAll((error) => (error.code === "ENOENT" ? Effect.succeed(false) : error))
  )

/**
 * The real path of the deepest existing ancestor. Found by bisection, as a path may have thousands of components and
 * each look at it takes time that grows with them.
 */
const existingAncestor = (path: NativePath): Effect.Effect<NativePath, SystemError> =>
  Effect.gen(function* () {
    const ancestors: Array<NativePath> = []
    for (let at = path; !isRoot(at); at = parent(at)) ancestors.push(at)
    ancestors.push(Buffer.from("/"))
    let missing = -1
    let found = ancestors.length - 1
    while (found - missing > 1) {
      const middle = Math.floor((missing + found) / 2)
      if (yield* exists(ancestors[middle] ?? path)) found = middle
      else missing = middle
    }
    return yield* attempt(() => realpath(ancestors[found] ?? path, { encoding: "buffer" }))
  })

/**
 * Refuses a destination that is the source or below it. Compares inodes, so other names of a directory are found too.
 */
const checkOutside = (source: NativePath, destination: NativePath): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const forbidden = yield* identityOf(source)
    for (let path = yield* existingAncestor(destination); ; path = parent(path)) {
      if (Cursor.isSame(forbidden, yield* identityOf(path))) {
        return yield* new FileRefused({
          message: "fs/copy cannot copy a directory to itself or one of its descendants"
        })
      }
      if (isRoot(path)) return
    }
  })

/** A directory on the current path, and its subdirectories that are not copied yet. */
interface Frame {
  readonly aboveSource: Cursor.Identity
  readonly aboveDestination: Cursor.Identity
  readonly left: Array<Buffer>
}

/** Copies the files and links in a directory; returns the names of its subdirectories. */
const copyEntries = (from: Cursor.Cursor, to: Cursor.Cursor, displayPath: NativePath) =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(from.here, listBytes)
    if (!complete) return yield* new FileRefused({ message: "a directory has too many entries to be copied" })
    yield* Effect.forEach(
      entries,
      ({ name, kind }) => {
        if (kind === "file") return copyFile(from.at(name), to.at(name), displayPath)
        return kind === "link" ? copyLink(from.at(name), to.at(name)) : Effect.void
      },
      { concurrency, discard: true }
    )
    return entries.flatMap(({ name, kind }) => (kind === "directory" ? [name] : []))
  })

/** Enters a directory, creating it at the destination if it is missing, with the permissions of the source. */
const enter = (from: Cursor.Cursor, to: Cursor.Cursor, name: Buffer) =>
  Effect.gen(function* () {
    yield* from.down(name)
    const { mode } = yield* attempt(() => stat(from.here))
    const made = yield* Effect.either(attempt(() => mkdir(to.at(name), (mode & 0o777) | 0o700)))
    if (made._tag === "Left" && made.left.code !== "EEXIST") return yield* made.left
    // ENOTDIR: the destination exists and is not a directory.
    yield* Effect.catchAll(to.down(name), (error) => (error.code === "ENOTDIR" ? ofCode("EEXIST") : error))
  })

const copyTree = (source: NativePath, destination: NativePath): Effect.Effect<void, Failure> =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* checkOutside(source, destination)
      const { mode } = yield* attempt(() => stat(source))
      const made = yield* Effect.either(attempt(() => mkdir(destination, (mode & 0o777) | 0o700)))
      if (made._tag === "Left") yield* makeDirectories(destination)
      const from = yield* Cursor.open(source, false)
      const to = yield* Cursor.open(destination, true)
      // The first frame has no parent to return to.
      const stack: Array<Frame> = []
      const visit = (aboveSource: Cursor.Identity, aboveDestination: Cursor.Identity) =>
        Effect.map(copyEntries(from, to, destination), (left) => stack.push({ aboveSource, aboveDestination, left }))
      yield* visit(yield* from.identity, yield* to.identity)
      while (true) {
        const frame = stack[stack.length - 1]
        if (frame === undefined) return
        const name = frame.left.pop()
        if (name !== undefined) {
          const above = [yield* from.identity, yield* to.identity] as const
          yield* enter(from, to, name)
          yield* visit(...above)
        } else {
          stack.pop()
          if (stack.length === 0) return
          yield* from.up(frame.aboveSource)
          yield* to.up(frame.aboveDestination)
        }
      }
    })
  )

/**
 * Copies a regular file and its mode, a link as a link or, with `recursive`, a directory, merged into an existing one.
 */
export const copy = (
  source: NativePath,
  destination: NativePath,
  recursive: boolean
): Effect.Effect<void, SystemError | FileError> =>
  Effect.flatMap(
    attempt(() => lstat(source)),
    (found): Effect.Effect<void, Failure> => {
      if (found.isFile()) return copyFile(source, destination, destination)
      if (found.isSymbolicLink()) return copyLink(source, destination)
      if (!found.isDirectory()) {
        return new FileRefused({ message: "fs/copy only supports regular files, directories, and symlinks" })
      }
      return recursive
        ? copyTree(source, destination)
        : new FileRefused({ message: "fs/copy requires recursive: true when sourcePath is a directory" })
    }
  )
