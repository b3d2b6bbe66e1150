/**
 * Files of the server's machine. Paths are absolute, plain or `file:` URIs. The client converts them to the form that
 * the server accepts; paths in results have the form of the request.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
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
import { FilePath, formatBytes } from "../protocol/PathUri.js"
import { Sandbox } from "../protocol/Sandbox.js"
import { formatParseError } from "../protocol/Schemas.js"
import type { Call } from "./Api.js"
import { type ClientError, InvalidRequest, ProtocolViolation, type Unsupported } from "./ClientError.js"
import { walkByListing } from "./ListingWalk.js"
import { need, needFiles, type ServerFeatures } from "./ServerFeatures.js"
import * as ServerNames from "./ServerNames.js"

/** The most blocks of one file in flight, when reading ahead or writing. */
const blocksAhead = 4

/**
 * Restrictions of a file request.
 *
 * @category models
 */
export interface Sandboxed {
  /** The files that the request may access (see `protocol/Sandbox`); the server enforces it or refuses. */
  readonly sandbox?: typeof Sandbox.Encoded | undefined
}

/**
 * How a request treats symbolic links.
 *
 * @category models
 */
export interface Following extends Sandboxed {
  /** If false, a path with a symbolic link in any component is refused. By default links are followed. */
  readonly followSymlinks?: boolean | undefined
}

/**
 * Options of a walk; its limits are the largest that every server accepts.
 *
 * @category models
 */
export interface Walking extends Partial<WalkOptions>, Sandboxed {}

/**
 * The file operations of a client. Inconsistent responses fail with `ProtocolViolation`.
 *
 * @category models
 */
export interface Files {
  /** Reads a regular file of at most 512 MiB. */
  readonly readFile: (path: string, options?: Following) => Effect.Effect<Buffer, ClientError>
  /** Creates a file or replaces its content. */
  readonly writeFile: (
    path: string,
    content: string | Uint8Array,
    options?: Following
  ) => Effect.Effect<void, ClientError>
  /** Streams a regular file of any size in blocks; as one chunk if the server does not support blocks. */
  readonly read: (path: string, options?: Sandboxed) => Stream.Stream<Buffer, ClientError>
  /**
   * Creates a file or replaces its content by that of a stream. If the server does not support blocks, it is sent in
   * one request, of at most 11 MiB.
   */
  readonly write: <E, R>(
    path: string,
    content: Stream.Stream<Uint8Array, E, R>,
    options?: Sandboxed
  ) => Effect.Effect<void, ClientError | E, R>
  /** Creates a directory. Unless `recursive` is false, also creates parents and accepts an existing directory. */
  readonly createDirectory: (
    path: string,
    options?: Following & { readonly recursive?: boolean | undefined }
  ) => Effect.Effect<void, ClientError>
  /** Describes the target of a path. */
  readonly getMetadata: (path: string, options?: Following) => Effect.Effect<FileMetadata, ClientError>
  /** Resolves every symbolic link of a path, which must exist. */
  readonly canonicalize: (path: string, options?: Sandboxed) => Effect.Effect<string, ClientError>
  /** Lists a directory, unsorted. Each name is a single component, never `.` or `..`. */
  readonly readDirectory: (
    path: string,
    options?: Sandboxed
  ) => Effect.Effect<ReadonlyArray<DirectoryEntry>, ClientError>
  /** Lists a tree: to a depth of 64, at most 10,000 directories and 50,000 entries, all of them below the path. */
  readonly walk: (path: string, options?: Walking) => Effect.Effect<WalkResult, ClientError>
  /**
   * Removes a file, a link (not its target) or a directory, with its content unless `recursive` is false. A missing
   * path is an error only if `force` is false.
   */
  readonly remove: (
    path: string,
    options?: Following & { readonly recursive?: boolean | undefined; readonly force?: boolean | undefined }
  ) => Effect.Effect<void, ClientError>
  /** Copies a file or, unless `recursive` is false, a directory and its content. */
  readonly copy: (
    source: string,
    destination: string,
    options?: Sandboxed & { readonly recursive?: boolean | undefined }
  ) => Effect.Effect<void, ClientError>
}

/** The largest limits of the original (current). */
const defaultWalk: WalkOptions = {
  ...maxWalk,
  followDirectorySymlinks: false,
  pruneHiddenDirectories: false
}

/** The result of a walk, checked against its limits. */
const checkWalk = (path: string, result: WalkResult, { maxDepth, maxEntries }: WalkOptions) => {
  const refuse = (detail: string) => new ProtocolViolation({ detail: `fs/walk: ${detail}` })
  if (result.entries.length > maxEntries) return refuse(`the server lists more than ${maxEntries} entries`)
  const checked = ServerNames.check(path, result.entries, maxDepth)
  return Either.isLeft(checked) ? refuse(checked.left) : Effect.succeed(result)
}

/** The common fields of requests on a path. */
interface OnPath {
  readonly path: FilePath
  readonly sandbox?: Sandbox
  readonly followSymlinks?: boolean
}

const decodePath = Schema.decodeEither(FilePath)
const decodeSandbox = Schema.decodeUnknown(Sandbox)

const toBuffer = (content: string | Uint8Array): Buffer =>
  typeof content === "string"
    ? Buffer.from(content)
    : Buffer.from(content.buffer, content.byteOffset, content.byteLength)

/** Removes fields that are undefined. */
const given = <A extends object>(options: A) =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof A]?: Exclude<A[K], undefined>
  }

/**
 * Makes the file operations of a session.
 *
 * @category constructors
 */
export const make = (call: Call, features: ServerFeatures): Files => {
  const { paths, maxWriteBytes } = features

  const pathOf = (method: string, path: string): Effect.Effect<FilePath, InvalidRequest> =>
    Effect.mapError(
      Effect.suspend(() => decodePath(path)),
      (error) => new InvalidRequest({ method, detail: formatParseError(error) })
    )

  /** Converts a path to the form that the server accepts. */
  const onWire = (method: string, path: FilePath): Effect.Effect<FilePath, InvalidRequest> => {
    if (paths === "any" || path.form === paths) return Effect.succeed(path)
    return paths === "plain" && !isUtf8(path.bytes)
      ? new InvalidRequest({ method, detail: "the path is not UTF-8, and the server takes plain paths only" })
      : Effect.succeed({ ...path, form: paths })
  }

  /** Converts a path in a result to the form of the request. */
  const asAsked = (path: string, { form }: FilePath): string => {
    if (paths === "any") return path
    const decoded = decodePath(path)
    return decoded._tag === "Right" ? formatBytes(decoded.right.bytes, form) : path
  }

  /** Uses a path in the server's form and in the caller's, with the sandbox and link options of the request. */
  const at = <A, E, R>(
    method: string,
    path: string,
    { sandbox, followSymlinks }: Following,
    use: (on: OnPath, asked: FilePath) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | InvalidRequest | Unsupported, R> =>
    Effect.gen(function* () {
      yield* needFiles(features)
      const asked = yield* pathOf(method, path)
      // Older servers ignore `followSymlinks` and follow links.
      yield* need(features, features.noFollow || followSymlinks !== false, "refuse to follow symbolic links")
      const decoded =
        sandbox === undefined
          ? undefined
          : yield* Effect.mapError(
              decodeSandbox(sandbox),
              (error) => new InvalidRequest({ method, detail: `sandbox: ${formatParseError(error)}` })
            )
      const wire = yield* onWire(method, asked)
      return yield* use({ path: wire, ...given({ sandbox: decoded, followSymlinks }) }, asked)
    })

  /** Opens a file; the scope closes it. */
  const open = (
    path: string,
    mode: "read" | "replace",
    options: Sandboxed
  ): Effect.Effect<string, ClientError, Scope.Scope> =>
    at("fs/open", path, options, (on) =>
      Effect.suspend(() => {
        // 32 bytes, the longest handle id.
        const handleId = randomUUID().replaceAll("-", "")
        return Effect.acquireRelease(
          Effect.as(Effect.interruptible(call("fs/open", { handleId, ...on, mode })), handleId),
          () => Effect.ignore(call("fs/close", { handleId }))
        )
      })
    )

  const readFile: Files["readFile"] = (path, options = {}) =>
    at("fs/readFile", path, options, (on) => Effect.map(call("fs/readFile", on), ({ dataBase64 }) => dataBase64))

  const read: Files["read"] = (path, options = {}) => {
    if (!features.fileBlocks) {
      return Stream.filter(Stream.fromEffect(readFile(path, options)), (content) => content.length > 0)
    }
    return Stream.unwrapScoped(
      Effect.map(open(path, "read", options), (handleId) =>
        Stream.iterate(0, (offset) => offset + maxBlockBytes).pipe(
          Stream.mapEffect(
            (offset) =>
              Effect.filterOrFail(
                call("fs/readBlock", { handleId, offset, len: maxBlockBytes }),
                // Otherwise the file would have a hole, or no end.
                ({ chunk, eof }) => chunk.length === maxBlockBytes || (eof && chunk.length < maxBlockBytes),
                ({ chunk }) =>
                  new ProtocolViolation({
                    detail: `fs/readBlock gave ${chunk.length} bytes of ${maxBlockBytes} before the end of the file`
                  })
              ),
            { concurrency: blocksAhead }
          ),
          Stream.takeUntil(({ eof }) => eof),
          Stream.filterMap(({ chunk }) => (chunk.length > 0 ? Option.some(chunk) : Option.none()))
        )
      )
    )
  }

  /** Collects a stream for one request; fails if it is larger than the server accepts. */
  const fits = (bytes: number) =>
    need(
      features,
      bytes <= maxWriteBytes,
      `take a file of more than ${maxWriteBytes} bytes in one message`,
      features.fileBlockWrites ? "write it as a stream" : "copy it another way"
    )

  const writeFile: Files["writeFile"] = (path, content, options = {}) =>
    at("fs/writeFile", path, options, (on) => {
      const bytes = toBuffer(content)
      return Effect.zipRight(
        fits(bytes.length),
        Effect.suspend(() => Effect.asVoid(call("fs/writeFile", { ...on, dataBase64: bytes.toString("base64") })))
      )
    })

  const writeWhole = <E, R>(path: string, content: Stream.Stream<Uint8Array, E, R>, options: Sandboxed) =>
    Effect.suspend(() => {
      const pieces: Array<Uint8Array> = []
      let total = 0
      return Stream.runForEach(content, (piece) => {
        pieces.push(piece)
        total += piece.length
        return fits(total)
      }).pipe(Effect.zipRight(Effect.suspend(() => writeFile(path, Buffer.concat(pieces), options))))
    })

  const write: Files["write"] = (path, content, options = {}) => {
    if (!features.fileBlockWrites) return writeWhole(path, content, options)
    return Effect.scoped(
      Effect.flatMap(open(path, "replace", options), (handleId) => {
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
  }

  const getMetadata: Files["getMetadata"] = (path, options = {}) =>
    at("fs/getMetadata", path, options, (on) => call("fs/getMetadata", on))

  const readDirectory: Files["readDirectory"] = (path, options = {}) =>
    at("fs/readDirectory", path, options, (on) =>
      Effect.flatMap(call("fs/readDirectory", on), ({ entries }) => {
        const bad = entries.find(({ fileName }) => !ServerNames.isName(fileName))
        return bad === undefined
          ? Effect.succeed(entries)
          : new ProtocolViolation({ detail: `fs/readDirectory gave ${ServerNames.quote(bad.fileName)} as a name` })
      })
    )

  return {
    readFile,
    writeFile,
    read,
    write,
    createDirectory: (path, { recursive, ...options } = {}) =>
      at("fs/createDirectory", path, options, (on) =>
        Effect.asVoid(call("fs/createDirectory", { ...on, ...given({ recursive }) }))
      ),
    getMetadata,
    canonicalize: (path, options = {}) =>
      at("fs/canonicalize", path, options, (on, asked) =>
        Effect.map(call("fs/canonicalize", on), ({ path }) => asAsked(path, asked))
      ),
    readDirectory,
    walk: (path, { sandbox, ...limits } = {}) =>
      at("fs/walk", path, { sandbox }, (on, asked) => {
        const options = { ...defaultWalk, ...given(limits) }
        if (!features.fileBlocks) {
          return walkByListing({ getMetadata, readDirectory }, formatBytes(asked.bytes, asked.form), options, {
            sandbox
          })
        }
        return Effect.flatMap(call("fs/walk", { ...on, options }), (result) => {
          const asAskedIn = <A extends { readonly path: string }>(found: ReadonlyArray<A>) =>
            found.map((one) => ({ ...one, path: asAsked(one.path, asked) }))
          const walked: WalkResult =
            paths === "any"
              ? result
              : { ...result, entries: asAskedIn(result.entries), errors: asAskedIn(result.errors) }
          return checkWalk(path, walked, options)
        })
      }),
    remove: (path, { recursive, force, ...options } = {}) =>
      at("fs/remove", path, options, (on) =>
        Effect.asVoid(call("fs/remove", { ...on, ...given({ recursive, force }) }))
      ),
    copy: (source, destination, options = {}) =>
      at("fs/copy", source, options, ({ path: sourcePath, ...on }) =>
        at("fs/copy", destination, {}, ({ path: destinationPath }) =>
          Effect.asVoid(call("fs/copy", { ...on, sourcePath, destinationPath, recursive: options.recursive ?? true }))
        )
      )
  }
}
