/**
 * A walk of a server that has none: directory by directory, with the same limits and the same result.
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

/** What a walk asks the server. `O` are the options that go with each question. */
export interface Directories<O> {
  readonly getMetadata: (path: string, options: O) => Effect.Effect<FileMetadata, ClientError>
  readonly readDirectory: (path: string, options: O) => Effect.Effect<ReadonlyArray<DirectoryEntry>, ClientError>
}

/** Names of one directory that are asked about at the same time. */
const atOnce = 8

const compare = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

/** The path of a name in a directory, in the directory's own form. */
const childOf = (directory: string, name: string): string => {
  const isUri = directory.startsWith("file:")
  const shown = isUri ? formatBytes(Buffer.from(`/${name}`), "uri").slice("file:///".length) : name
  return `${directory.endsWith("/") ? directory.slice(0, -1) : directory}/${shown}`
}

/** Whatever the server says of one path is an error of the walk; what ends the connection ends the walk. */
const asFound = <A>(path: string, errors: Array<WalkError>, effect: Effect.Effect<A, ClientError>) =>
  Effect.catchTag(Effect.asSome(effect), "ServerError", ({ reason }) =>
    Effect.sync(() => {
      errors.push({ path, message: reason })
      return undefined
    })
  )

/** Lists everything below a directory, level by level, sorted by name; links and special files are left out. */
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
