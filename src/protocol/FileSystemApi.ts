/**
 * Requests on files and directories (May, unless tagged). Paths are absolute plain paths or `file:` URIs; a result uses
 * the form of the request.
 *
 * The requests of one session behave as if they ran one after another in arrival order.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { maxItems } from "./Bounds.js"
import { ClientId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { FilePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import {
  Base64,
  Bytes,
  Count,
  Empty,
  Flag,
  Integer,
  maybe,
  nullOr,
  oneOf,
  listOf as sequenceOf,
  Text,
  withFallback
} from "./Schemas.js"
import { policyFields } from "./Unenforced.js"

/**
 * The largest file that `fs/readFile` returns, in bytes.
 *
 * @category constants
 */
export const maxFileBytes = 536870912

/**
 * The largest block of `fs/readBlock` and `fs/writeBlock`, in bytes.
 *
 * @category constants
 */
export const maxBlockBytes = 1048576

/** Parameters of every request with a path. */
const sandboxFields = {
  /** The files this request may access. The server enforces it or refuses the request. */
  sandbox: maybe(Sandbox),
  ...policyFields
}

const pathFields = { path: FilePath, ...sandboxFields }

/** If false (current), a path with a symbolic link in any component is refused. By default links are followed. */
const linkFields = { followSymlinks: maybe(Flag) }

/**
 * The result of `fs/getMetadata`: the target of the path. Only `isSymlink` describes the path itself.
 *
 * @category schemas
 */
export const FileMetadata = Schema.Struct({
  isDirectory: Flag,
  isFile: Flag,
  isSymlink: Flag,
  /** In bytes (current); null from older servers. */
  size: withFallback(nullOr(Count), () => null),
  /** Milliseconds since 1970; 0 if the file system does not record it. */
  createdAtMs: Integer,
  modifiedAtMs: Integer
})
export type FileMetadata = typeof FileMetadata.Type

/**
 * An array whose elements pass a predicate, which `properties` describes as JSON Schema. Schema.Array of a Struct costs
 * microseconds per element; lists are long.
 */
const listOf = <A>(
  is: (value: { readonly [key: string]: unknown }) => boolean,
  properties: { readonly [K in keyof A]: object }
) =>
  Schema.declare(
    (value: unknown): value is ReadonlyArray<A> =>
      Array.isArray(value) && value.every((element) => isRecord(element) && is(element)),
    {
      jsonSchema: {
        type: "array",
        items: { type: "object", required: Object.keys(properties), properties, additionalProperties: true }
      }
    }
  )

const string = { type: "string" }
const boolean = { type: "boolean" }

/**
 * A directory entry. The flags describe the target of a link. Invalid UTF-8 in a name is replaced by U+FFFD.
 *
 * @category models
 */
export interface DirectoryEntry {
  readonly fileName: string
  readonly isDirectory: boolean
  readonly isFile: boolean
}

/**
 * A file or directory that `fs/walk` found.
 *
 * @category models
 */
export interface WalkEntry {
  readonly path: string
  readonly kind: "file" | "directory"
}

/**
 * A directory that could not be read, and why.
 *
 * @category models
 */
export interface WalkError {
  readonly path: string
  readonly message: string
}

/**
 * The largest `WalkOptions` that `fs/walk` accepts (current).
 *
 * @category constants
 */
export const maxWalk = { maxDepth: 64, maxDirectories: 10000, maxEntries: 50000 } as const

/**
 * Limits of `fs/walk` (current), at most those of `maxWalk`. `maxDirectories` and `maxEntries` are at least 1.
 *
 * @category schemas
 */
export const WalkOptions = Schema.Struct({
  /** 0 lists only the directory itself, no subdirectories. */
  maxDepth: Count,
  /** Counts the directories that are read, including the first. */
  maxDirectories: Count,
  maxEntries: Count,
  followDirectorySymlinks: Flag,
  /** List directories whose name begins with a dot, and links to them, but do not descend. Must not be null. */
  pruneHiddenDirectories: Schema.optionalWith(Flag, { default: () => false })
})
export type WalkOptions = typeof WalkOptions.Type

/**
 * The result of `fs/walk` (current): breadth first, sorted by name within each directory.
 *
 * @category schemas
 */
export const WalkResult = Schema.Struct({
  entries: listOf<WalkEntry>(
    ({ path, kind }) => typeof path === "string" && (kind === "file" || kind === "directory"),
    {
      path: string,
      kind: { type: "string", enum: ["file", "directory"] }
    }
  ),
  errors: listOf<WalkError>(({ path, message }) => typeof path === "string" && typeof message === "string", {
    path: string,
    message: string
  }),
  /** Whether `maxDirectories`, `maxEntries` or the server's limit of 8 MiB of paths omitted something. */
  truncated: Flag
})
export type WalkResult = typeof WalkResult.Type

/** The id the client chooses for an open file: at most 32 bytes, unique within the connection. */
const handleFields = { handleId: ClientId }

/**
 * All requests on files and directories.
 *
 * @category schemas
 */
export class FileSystemApi extends RpcGroup.make(
  /** Reads a regular file of at most 512 MiB. */
  request("fs/readFile", {
    family: "filesystem",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({ ...pathFields, ...linkFields }),
    success: Schema.Struct({ dataBase64: Bytes })
  }),
  /** Creates a file or replaces its content, not atomically. Invalid base64 leaves the file untouched. */
  request("fs/writeFile", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({ ...pathFields, ...linkFields, dataBase64: Base64 }),
    success: Empty
  }),
  /** Creates a directory. With `recursive` (the default) it also creates parents and accepts an existing directory. */
  request("fs/createDirectory", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...pathFields, ...linkFields, recursive: maybe(Flag) }),
    success: Empty
  }),
  /** Describes the target of a path. */
  request("fs/getMetadata", {
    family: "filesystem",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...pathFields, ...linkFields }),
    success: FileMetadata
  }),
  /** Resolves every symbolic link of a path (current). The path must exist. */
  request("fs/canonicalize", {
    family: "filesystem",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(pathFields),
    success: Schema.Struct({ path: Text })
  }),
  /** Lists a directory, unsorted, without dangling links. */
  request("fs/readDirectory", {
    family: "filesystem",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(pathFields),
    success: Schema.Struct({
      entries: listOf<DirectoryEntry>(
        ({ fileName, isDirectory, isFile }) =>
          typeof fileName === "string" && typeof isDirectory === "boolean" && typeof isFile === "boolean",
        { fileName: string, isDirectory: boolean, isFile: boolean }
      )
    })
  }),
  /** Lists the tree below a directory (current), without links to files and without special files. */
  request("fs/walk", {
    family: "filesystem",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({ ...pathFields, options: WalkOptions }),
    success: WalkResult
  }),
  /**
   * Removes a file, a link (not its target) or a directory. `recursive` and `force` (ignore a missing path) default to
   * true.
   */
  request("fs/remove", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    answered: "whenever",
    payload: Schema.Struct({ ...pathFields, ...linkFields, recursive: maybe(Flag), force: maybe(Flag) }),
    success: Empty
  }),
  /**
   * Copies a file, a link (as a link) or, with `recursive`, a directory, which is merged into an existing destination.
   */
  request("fs/copy", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    answered: "whenever",
    payload: Schema.Struct({
      sourcePath: FilePath,
      destinationPath: FilePath,
      recursive: Flag,
      ...sandboxFields
    }),
    success: Empty
  }),
  /** Opens a regular file for reading; `replace` creates or truncates it for writing (current). */
  request("fs/open", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...pathFields, ...handleFields, mode: maybe(oneOf("read", "replace")) }),
    success: Schema.Struct(handleFields)
  }),
  /** Reads 1 byte to 1 MiB at an offset (current). `eof` is true if the file ended before `len` bytes. */
  request("fs/readBlock", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...handleFields, offset: Count, len: Count }),
    success: Schema.Struct({ chunk: Bytes, eof: Flag })
  }),
  /** Writes 1 byte to 1 MiB at an offset (current). A hole before the offset reads as zeros. */
  request("fs/writeBlock", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...handleFields, offset: Count, chunk: Bytes }),
    success: Empty
  }),
  /**
   * Watches up to 64 missing paths (current) and sends `fs/missingChanged` once, when one of them is created. A
   * connection has one watch, which a larger id replaces. An id that is not larger than the last is answered with
   * `watching: false` and leaves the watch in place.
   */
  request("fs/watchMissing", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      watchId: Count,
      missing: maxItems(sequenceOf(FilePath), 256),
      /** An existing path to watch as well, for changes to it but not to what a directory contains. */
      present: maybe(FilePath)
    }),
    /** Whether a notification will follow. If false, the client has to poll. */
    success: Schema.Struct({ watching: Flag })
  }),
  /** Closes an open file (current). An unknown handle is no error. */
  request("fs/close", {
    family: "filesystem",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct(handleFields),
    success: Empty
  })
) {}
