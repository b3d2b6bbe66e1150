/**
 * The file system service that the `fs/*` requests use.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { constants } from "node:fs"
import { lstat, realpath, stat } from "node:fs/promises"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { FileFailed, FileRefused } from "../protocol/Failure.js"
import type { FileMetadata, WalkOptions } from "../protocol/FileSystemApi.js"
import * as Copy from "./Copy.js"
import * as Cursor from "./Cursor.js"
import * as Listing from "./Listing.js"
import * as MakeDirectory from "./MakeDirectory.js"
import * as MissingWatch from "./MissingWatch.js"
import { basename, join, type NativePath, names } from "./NativePath.js"
import * as OpenFile from "./OpenFile.js"
import * as Remove from "./Remove.js"
import { attempt, type FileError, mapToFileError, optionOf, type SystemError } from "./SystemError.js"
import * as Walk from "./Walk.js"

/**
 * How symbolic links in a path are treated. If false, an operation fails if any component of the path is a link.
 *
 * @category models
 */
export interface LinkOptions {
  readonly followSymlinks: boolean
}

/**
 * A directory entry. The flags describe the target of a link.
 *
 * @category models
 */
export interface DirectoryEntry {
  readonly name: Buffer
  readonly isDirectory: boolean
  readonly isFile: boolean
}

/**
 * The file operations. Paths are absolute, without `.`, `..` and a trailing slash.
 *
 * @category models
 */
export interface Files {
  /** Opens a regular file; the scope closes it. */
  readonly open: (
    path: NativePath,
    mode: OpenFile.Mode,
    options: LinkOptions
  ) => Effect.Effect<OpenFile.OpenFile, FileError, Scope.Scope>
  readonly createDirectory: (
    path: NativePath,
    options: LinkOptions & { readonly recursive: boolean }
  ) => Effect.Effect<void, FileError>
  readonly getMetadata: (path: NativePath, options: LinkOptions) => Effect.Effect<FileMetadata, FileError>
  readonly canonicalize: (path: NativePath) => Effect.Effect<NativePath, FileError>
  readonly readDirectory: (path: NativePath) => Effect.Effect<ReadonlyArray<DirectoryEntry>, FileError>
  readonly walk: (path: NativePath, options: WalkOptions) => Effect.Effect<Walk.WalkResult, FileError>
  readonly remove: (path: NativePath, options: Remove.RemoveOptions) => Effect.Effect<void, FileError>
  readonly copy: (source: NativePath, destination: NativePath, recursive: boolean) => Effect.Effect<void, FileError>
  /**
   * Watches missing paths until the scope closes; false if they cannot be watched. Absent if watching is unsupported.
   */
  readonly watchMissing?: (
    watched: MissingWatch.Watched,
    onChange: () => void
  ) => Effect.Effect<boolean, never, Scope.Scope>
}

/**
 * The files of a server.
 *
 * @category models
 */
export interface Shape extends Files {
  /**
   * Whether these are the machine's own files, of which `FileViews` makes views. Requests with a restrictive sandbox go
   * to such a view instead of this service; if this is false, they are refused.
   */
  readonly isConfinable: boolean
}

/** The memory limit of a directory listing for one response, in bytes; about 100,000 names. */
const listBytes = 16_777_216

/** Links resolved concurrently; Node.js has four threads for file operations. */
const concurrency = 4

/** Runs `use` with the path of the last component, relative to its open parent, reached without following links. */
const withoutLinks = <A, E, R>(
  path: NativePath,
  use: (path: NativePath) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | SystemError, R> =>
  Effect.scoped(Effect.flatMap(Cursor.openWithoutLinks(names(path)), (cursor) => use(cursor.at(basename(path)))))

const open = (path: NativePath, mode: OpenFile.Mode, followSymlinks: boolean) => {
  if (followSymlinks) return OpenFile.open(path, mode)
  return Effect.scopeWith((scope) =>
    withoutLinks(path, (last) =>
      Effect.gen(function* () {
        const found = yield* Effect.option(attempt(() => lstat(last)))
        if (found._tag === "Some" && found.value.isSymbolicLink()) {
          return yield* new FileFailed({ message: "Symbolic link loop (os error 40)" })
        }
        // The file outlives the cursor: its owner is the caller's scope.
        return yield* Scope.extend(OpenFile.open(last, mode, { flags: constants.O_NOFOLLOW, displayPath: path }), scope)
      })
    )
  )
}

const describe = (found: Awaited<ReturnType<typeof stat>>, isSymlink: boolean): FileMetadata => ({
  isDirectory: found.isDirectory(),
  isFile: found.isFile(),
  isSymlink,
  size: Number(found.size),
  createdAtMs: Math.floor(Number(found.birthtimeMs)),
  modifiedAtMs: Math.floor(Number(found.mtimeMs))
})

const getMetadata = (path: NativePath, followSymlinks: boolean) => {
  if (followSymlinks) {
    return Effect.gen(function* () {
      const itself = yield* attempt(() => lstat(path))
      const isSymlink = itself.isSymbolicLink()
      return describe(isSymlink ? yield* attempt(() => stat(path)) : itself, isSymlink)
    })
  }
  return withoutLinks(path, (last) =>
    Effect.flatMap(
      attempt(() => lstat(last)),
      (found) =>
        found.isSymbolicLink()
          ? new FileRefused({ message: "path contains a symbolic link" })
          : Effect.succeed(describe(found, false))
    )
  )
}

/** Resolves an entry; empty for a dangling link. */
const resolve = (
  directory: NativePath,
  { name, kind }: Listing.Entry
): Effect.Effect<ReadonlyArray<DirectoryEntry>, SystemError> => {
  if (kind !== "link") return Effect.succeed([{ name, isDirectory: kind === "directory", isFile: kind === "file" }])
  return Effect.map(optionOf(attempt(() => stat(join(directory, name)))), (found) =>
    Option.toArray(found).map((one) => ({ name, isDirectory: one.isDirectory(), isFile: one.isFile() }))
  )
}

const readDirectory = (path: NativePath) =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(path, listBytes)
    if (!complete) {
      return yield* new FileRefused({
        message: `the directory has too many entries for one response (limit: ${listBytes} bytes)`
      })
    }
    return (yield* Effect.forEach(entries, (entry) => resolve(path, entry), { concurrency })).flat()
  })

/**
 * The file system that serves `fs/*` requests.
 *
 * @category tags
 */
export class FileSystem extends Context.Tag("exec-server/FileSystem")<FileSystem, Shape>() {
  /** The file system of this machine. */
  static readonly layer: Layer.Layer<FileSystem> = Layer.succeed(FileSystem, {
    isConfinable: true,
    open: (path, mode, { followSymlinks }) => mapToFileError(open(path, mode, followSymlinks)),
    createDirectory: (path, { recursive, followSymlinks }) =>
      mapToFileError(MakeDirectory.makeDirectory(path, recursive, followSymlinks)),
    getMetadata: (path, { followSymlinks }) => mapToFileError(getMetadata(path, followSymlinks)),
    canonicalize: (path) => mapToFileError(attempt(() => realpath(path, { encoding: "buffer" }))),
    readDirectory: (path) => mapToFileError(readDirectory(path)),
    walk: (path, options) => mapToFileError(Walk.walk(path, options)),
    remove: (path, options) => mapToFileError(Remove.remove(path, options)),
    copy: (source, destination, recursive) => mapToFileError(Copy.copy(source, destination, recursive)),
    watchMissing: MissingWatch.watch
  })
}

/**
 * The file system of this machine.
 *
 * @category layers
 */
export const layer: Layer.Layer<FileSystem> = FileSystem.layer
