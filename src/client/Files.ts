/**
 * Files where the server runs. Paths are absolute, plain or as `file:` URIs.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type DirectoryEntry,
  type FileMetadata,
  maxBlockBytes,
  maxWalk,
  type WalkOptions,
  type WalkResult
} from "../protocol/FileSystemApi.js"
import { FilePath } from "../protocol/PathUri.js"
import { formatParseError } from "../protocol/Schemas.js"
import { type ClientError, InvalidRequest } from "./ClientError.js"
import type { Call } from "./ClientSession.js"

/** Blocks of one file that are asked for ahead, or sent without waiting for the answers. */
const blocksAhead = 4

/** Files where the server runs. */
export interface Files {
  /** The content of a regular file of at most 512 MiB. */
  readonly readFile: (path: string) => Effect.Effect<Buffer, ClientError>
  /** Creates a file or replaces its content. */
  readonly writeFile: (path: string, content: string | Uint8Array) => Effect.Effect<void, ClientError>
  /** The content of a regular file of any size, a block at a time. */
  readonly read: (path: string) => Stream.Stream<Buffer, ClientError>
  /** Creates a file or replaces its content by that of a stream. */
  readonly write: <E, R>(
    path: string,
    content: Stream.Stream<Uint8Array, E, R>
  ) => Effect.Effect<void, ClientError | E, R>
  /** Creates a directory with its parents; it may exist. */
  readonly createDirectory: (path: string) => Effect.Effect<void, ClientError>
  readonly getMetadata: (path: string) => Effect.Effect<FileMetadata, ClientError>
  /** The path without links; it must exist. */
  readonly canonicalize: (path: string) => Effect.Effect<string, ClientError>
  readonly readDirectory: (path: string) => Effect.Effect<ReadonlyArray<DirectoryEntry>, ClientError>
  /** Everything below a directory. */
  readonly walk: (path: string, options?: Partial<WalkOptions>) => Effect.Effect<WalkResult, ClientError>
  /** Removes a file, a link itself, or a directory with all that is in it; nothing there is no error. */
  readonly remove: (path: string) => Effect.Effect<void, ClientError>
  /** Copies a file, or a directory with all that is in it. */
  readonly copy: (source: string, destination: string) => Effect.Effect<void, ClientError>
}

const decodePath = Schema.decodeEither(FilePath)

const toBuffer = (content: string | Uint8Array): Buffer =>
  typeof content === "string"
    ? Buffer.from(content)
    : Buffer.from(content.buffer, content.byteOffset, content.byteLength)

/** The files that a server's requests reach. */
export const make = (call: Call): Files => {
  const at = <A, E, R>(
    method: string,
    path: string,
    use: (path: FilePath) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | InvalidRequest, R> =>
    Effect.suspend(() => decodePath(path)).pipe(
      Effect.mapError((error) => new InvalidRequest({ method, detail: formatParseError(error) })),
      Effect.flatMap(use)
    )

  /** A file that is open while the scope is. */
  const open = (path: string, mode: "read" | "replace"): Effect.Effect<string, ClientError, Scope.Scope> =>
    at("fs/open", path, (path) =>
      Effect.suspend(() => {
        // 32 bytes, the longest there may be.
        const handleId = randomUUID().replaceAll("-", "")
        return Effect.acquireRelease(
          Effect.as(Effect.interruptible(call("fs/open", { handleId, path, mode })), handleId),
          () => Effect.ignore(call("fs/close", { handleId }))
        )
      })
    )

  const read = (path: string) =>
    Stream.unwrapScoped(
      Effect.map(open(path, "read"), (handleId) =>
        Stream.iterate(0, (offset) => offset + maxBlockBytes).pipe(
          Stream.mapEffect((offset) => call("fs/readBlock", { handleId, offset, len: maxBlockBytes }), {
            concurrency: blocksAhead
          }),
          Stream.takeUntil(({ eof }) => eof),
          Stream.filterMap(({ chunk }) => (chunk.length > 0 ? Option.some(chunk) : Option.none()))
        )
      )
    )

  const write = <E, R>(path: string, content: Stream.Stream<Uint8Array, E, R>) =>
    Effect.scoped(
      Effect.flatMap(open(path, "replace"), (handleId) => {
        let offset = 0
        return content.pipe(
          Stream.flatMap((chunk) => {
            const bytes = toBuffer(chunk)
            const blocks = Array.from({ length: Math.ceil(bytes.length / maxBlockBytes) }, (_, i) => ({
              offset: offset + i * maxBlockBytes,
              chunk: bytes.subarray(i * maxBlockBytes, (i + 1) * maxBlockBytes)
            }))
            offset += bytes.length
            return Stream.fromChunk(Chunk.unsafeFromArray(blocks))
          }),
          Stream.mapEffect((block) => call("fs/writeBlock", { handleId, ...block }), {
            concurrency: blocksAhead,
            unordered: true
          }),
          Stream.runDrain
        )
      })
    )

  return {
    readFile: (path) =>
      at("fs/readFile", path, (path) => Effect.map(call("fs/readFile", { path }), ({ dataBase64 }) => dataBase64)),
    writeFile: (path, content) =>
      at("fs/writeFile", path, (path) =>
        Effect.asVoid(call("fs/writeFile", { path, dataBase64: toBuffer(content).toString("base64") }))
      ),
    read,
    write,
    createDirectory: (path) =>
      at("fs/createDirectory", path, (path) => Effect.asVoid(call("fs/createDirectory", { path }))),
    getMetadata: (path) => at("fs/getMetadata", path, (path) => call("fs/getMetadata", { path })),
    canonicalize: (path) =>
      at("fs/canonicalize", path, (path) => Effect.map(call("fs/canonicalize", { path }), ({ path }) => path)),
    readDirectory: (path) =>
      at("fs/readDirectory", path, (path) => Effect.map(call("fs/readDirectory", { path }), ({ entries }) => entries)),
    walk: (path, options) =>
      at("fs/walk", path, (path) =>
        call("fs/walk", {
          path,
          options: {
            ...maxWalk,
            followDirectorySymlinks: false,
            pruneHiddenDirectories: false,
            ...options
          }
        })
      ),
    remove: (path) => at("fs/remove", path, (path) => Effect.asVoid(call("fs/remove", { path }))),
    copy: (source, destination) =>
      at("fs/copy", source, (sourcePath) =>
        at("fs/copy", destination, (destinationPath) =>
          Effect.asVoid(call("fs/copy", { sourcePath, destinationPath, recursive: true }))
        )
      )
  }
}
