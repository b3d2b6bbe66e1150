/**
 * Emulates `fs/walk` for servers without it, one directory at a time, with the same limits and the same result.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type {
  DirectoryEntry,
  FileMetadata,
  WalkEntry,
  WalkError,
  WalkOptions,
  WalkResult
} from "../protocol/FileSystemApi.js"
import { formatBytes } from "../protocol/PathUri.js"
import { type ClientError, Unsupported } from "./ClientError.js"

/** The requests that a walk needs. `O` are the options of each request. */
export interface Directories<O> {
  readonly getMetadata: (path: string, options: O) => Effect.Effect<FileMetadata, ClientError>
  readonly readDirectory: (path: string, options: O) => Effect.Effect<ReadonlyArray<DirectoryEntry>, ClientError>
}

/** The most concurrent requests for the entries of one directory. */
const atOnce = 8

const compare = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

/** The path of a name in a directory, in the form of the directory's path. */
const childOf = (directory: string, name: string): string => {
  const isUri = directory.startsWith("file:")
  const shown = isUri ? formatBytes(Buffer.from(`/${name}`), "uri").slice("file:///".length) : name
  return `${directory.endsWith("/") ? directory.slice(0, -1) : directory}/${shown}`
}

/** A server's error for one path becomes an error entry of the walk; a lost connection fails the walk. */
const asFound = <A>(path: string, errors: Array<WalkError>, effect: Effect.Effect<A, ClientError>) =>
  Effect.catchTag(Effect.asSome(effect), "ServerError", ({ reason }) =>
    Effect.sync(() => {
      errors.push({ path, message: reason })
      return undefined
    })
  )

/** Lists a tree breadth first, sorted by name, without links and special files. */
export const walkByListing = <O>(
  { getMetadata, readDirectory }: Directories<O>,
  root: string,
  { maxDepth, maxDirectories, maxEntries, followDirectorySymlinks, pruneHiddenDirectories }: WalkOptions,
  options: O
): Effect.Effect<WalkResult, ClientError> =>
  Effect.gen(function* () {
    if (followDirectorySymlinks) {
      return yield* new Unsupported({ server: "this server", what: "walk through links (it does not serve fs/walk)" })
    }
    const entries: Array<WalkEntry> = []
    const errors: Array<WalkError> = []
    const top = yield* getMetadata(root, options)
    if (!top.isDirectory || top.isSymlink) return { entries, errors, truncated: false }

    let level: ReadonlyArray<string> = [root]
    let directories = 0
    for (let depth = 0; level.length > 0 && depth <= maxDepth; depth++) {
      const below: Array<string> = []
      for (const directory of level) {
        if (directories++ >= maxDirectories) return { entries, errors, truncated: true }
        const listed = yield* asFound(directory, errors, readDirectory(directory, options))
        if (listed?._tag !== "Some") continue
        const names = listed.value
          .filter(({ isDirectory, isFile }) => isDirectory || isFile)
          .sort((a, b) => compare(a.fileName, b.fileName))
        const links = yield* Effect.forEach(
          names,
          ({ fileName }) => {
            const path = childOf(directory, fileName)
            return asFound(path, errors, getMetadata(path, options))
          },
          { concurrency: atOnce }
        )
        for (const [i, { fileName, isDirectory }] of names.entries()) {
          const found = links[i]
          if (found?._tag !== "Some" || found.value.isSymlink) continue
          if (entries.length >= maxEntries) return { entries, errors, truncated: true }
          const path = childOf(directory, fileName)
          entries.push({ path, kind: isDirectory ? "directory" : "file" })
          if (isDirectory && !(pruneHiddenDirectories && fileName.startsWith("."))) below.push(path)
        }
      }
      level = below
    }
    return { entries, errors, truncated: false }
  })
