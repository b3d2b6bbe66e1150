/**
 * Copies files, links and trees.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { constants } from "node:fs"
import { lstat, mkdir, readlink, realpath, stat, symlink } from "node:fs/promises"
import * as Effect from "effect/Effect"
import { FileRefused } from "../protocol/Failure.js"
import * as Cursor from "./Cursor.js"
import * as Listing from "./Listing.js"
import { makeDirectories } from "./MakeDirectory.js"
import { isRoot, type NativePath, parent } from "./NativePath.js"
import { openKnown, openRegular } from "./OpenFile.js"
import { attempt, type FileError, ofCode, type SystemError } from "./SystemError.js"

type Failure = SystemError | FileError

/** How much is read before it is written, in bytes. */
const pieceBytes = 1048576

/** How many files are copied at a time; the system has four threads for files. */
const concurrency = 4

/** How much is listed of a directory, in bytes of memory; about half a million names. */
const listBytes = 100_000_000

const identityOf = (path: NativePath) => attempt(() => stat(path, { bigint: true }))

/** Copies the content and the mode of what is known to be a regular file. */
const copyFile = (source: NativePath, destination: NativePath, shown: NativePath): Effect.Effect<void, Failure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { handle: from, found } = yield* openKnown(source, "read", { flags: constants.O_NOFOLLOW })
      const permissions = Number(found.mode & 0o7777n)
      // Not emptied before it is known to be another file.
      const { handle: to, found: old } = yield* openRegular(destination, "keep", { permissions, shown })
      if (Cursor.isSame(found, old)) return yield* new FileRefused({ message: "fs/copy cannot copy a file to itself" })
      if (old.size > 0n) yield* attempt(() => to.truncate(0))
      const piece = Buffer.allocUnsafe(Math.min(pieceBytes, Number(found.size) + 1))
      while (true) {
        const { bytesRead } = yield* attempt(() => from.read(piece, 0, piece.length))
        if (bytesRead > 0) yield* attempt(() => to.writeFile(piece.subarray(0, bytesRead)))
        // A regular file gives less than was asked for only at its end.
        if (bytesRead < piece.length) break
      }
      if (old.mode !== found.mode) yield* attempt(() => to.chmod(permissions))
    })
  )

const copyLink = (source: NativePath, destination: NativePath): Effect.Effect<void, SystemError> =>
  Effect.flatMap(
    attempt(() => readlink(source, { encoding: "buffer" })),
    (target) => attempt(() => symlink(target, destination))
  )

/** The deepest part of a path that exists, without links. */
const existing = (path: NativePath): Effect.Effect<NativePath, SystemError> =>
  Effect.catchAll(
    attempt(() => realpath(path, { encoding: "buffer" })),
    (error) =>
      error.code === "ENOENT" && !isRoot(path) ? Effect.suspend(() => existing(parent(path))) : Effect.fail(error)
  )

/** Refuses a destination that is the source or below it, under whatever name. */
const checkOutside = (source: NativePath, destination: NativePath): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const forbidden = yield* identityOf(source)
    for (let path = yield* existing(destination); ; path = parent(path)) {
      if (Cursor.isSame(forbidden, yield* identityOf(path))) {
        return yield* new FileRefused({
          message: "fs/copy cannot copy a directory to itself or one of its descendants"
        })
      }
      if (isRoot(path)) return
    }
  })

/** A directory on the way down, and the directories in it that are left to copy. */
interface Frame {
  readonly aboveSource: Cursor.Identity
  readonly aboveDestination: Cursor.Identity
  readonly left: Array<Buffer>
}

/** Copies what is in a directory and no directory itself; gives the names of those that are. */
const copyEntries = (from: Cursor.Cursor, to: Cursor.Cursor, shown: NativePath) =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(from.here, listBytes)
    if (!complete) return yield* new FileRefused({ message: "a directory has too many entries to be copied" })
    yield* Effect.forEach(
      entries,
      ({ name, kind }) => {
        if (kind === "file") return copyFile(from.at(name), to.at(name), shown)
        return kind === "link" ? copyLink(from.at(name), to.at(name)) : Effect.void
      },
      { concurrency, discard: true }
    )
    return entries.flatMap(({ name, kind }) => (kind === "directory" ? [name] : []))
  })

/** Enters a directory that is created unless it exists; it keeps its content to itself at least as the source does. */
const enter = (from: Cursor.Cursor, to: Cursor.Cursor, name: Buffer) =>
  Effect.gen(function* () {
    yield* from.down(name)
    const { mode } = yield* attempt(() => stat(from.here))
    const made = yield* Effect.either(attempt(() => mkdir(to.at(name), (mode & 0o777) | 0o700)))
    if (made._tag === "Left" && made.left.code !== "EEXIST") return yield* made.left
    // What is there and cannot be entered is no directory.
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
      // Nothing is above the first: the way back ends there.
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

/** Copies a regular file with its mode, a link as a link, or with `recursive` a directory, merged into an existing one. */
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
