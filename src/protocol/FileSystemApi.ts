/**
 * The requests on files and directories (May; those marked, now). Paths are absolute plain paths or `file:` URIs, and an
 * answer uses the form of its question.
 *
 * Requests of one session behave as if they were carried out one after another, in the order they arrived.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { request } from "./MethodFacts.js"
import { FilePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import { Bytes, Count, Flag, Integer, ifTold, maybe, oneOf, listOf as sequenceOf, Text } from "./Schemas.js"
import { policyFields } from "./Unenforced.js"

/** The largest file that one `fs/readFile` gives, in bytes. */
export const maxFileBytes = 536870912

/** The largest block of `fs/readBlock` and `fs/writeBlock`, in bytes. */
export const maxBlockBytes = 1048576

const Empty = Schema.Struct({})

/** What every request that names paths takes. */
const sandboxed = {
  /** What of the files is there for this request; refused where that cannot be enforced, never ignored. */
  sandbox: maybe(Sandbox),
  ...policyFields
}

const onPath = { path: FilePath, ...sandboxed }

/** Unless false (now), links are followed; if it is, a path with a symbolic link anywhere in it is refused. */
const following = { followSymlinks: maybe(Flag) }

/** `fs/getMetadata`: what a path leads to. `isSymlink` alone speaks of the path itself. */
export const FileMetadata = Schema.Struct({
  isDirectory: Flag,
  isFile: Flag,
  isSymlink: Flag,
  /** In bytes (now); null where an earlier server does not tell it. */
  size: ifTold(Schema.NullOr(Count), () => null),
  /** Milliseconds since 1970; 0 where the file system does not know. */
  createdAtMs: Integer,
  modifiedAtMs: Integer
})
export type FileMetadata = typeof FileMetadata.Type

/** A list of what a test accepts. Not an Array of a Struct: that takes microseconds an element, and there are many. */
const listOf = <A>(is: (value: { readonly [key: string]: unknown }) => boolean) =>
  Schema.declare(
    (value: unknown): value is ReadonlyArray<A> =>
      Array.isArray(value) && value.every((element) => isRecord(element) && is(element))
  )

/** One name of a directory; the kinds are those of what it leads to. A name that is not UTF-8 has U+FFFD in it. */
export interface DirectoryEntry {
  readonly fileName: string
  readonly isDirectory: boolean
  readonly isFile: boolean
}

/** Something below a directory. */
export interface WalkEntry {
  readonly path: string
  readonly kind: "file" | "directory"
}

/** A directory that could not be read, and why. */
export interface WalkError {
  readonly path: string
  readonly message: string
}

/** The largest values that `fs/walk` takes (now); larger ones are refused. */
export const maxWalk = { maxDepth: 64, maxDirectories: 10000, maxEntries: 50000 } as const

/** How far `fs/walk` goes (now). `maxDirectories` and `maxEntries` must be above 0, and none above `maxWalk`. */
export const WalkOptions = Schema.Struct({
  /** 0: only what is directly in the directory. */
  maxDepth: Count,
  /** Directories that are read, the first included. */
  maxDirectories: Count,
  maxEntries: Count,
  followDirectorySymlinks: Flag,
  /** List directories whose name begins with a dot, links to directories included, but not what is in them. Not null. */
  pruneHiddenDirectories: Schema.optionalWith(Flag, { default: () => false })
})
export type WalkOptions = typeof WalkOptions.Type

/** `fs/walk`: everything below a directory, level by level, sorted by name within each directory. */
export const WalkResult = Schema.Struct({
  entries: listOf<WalkEntry>(({ path, kind }) => typeof path === "string" && (kind === "file" || kind === "directory")),
  errors: listOf<WalkError>(({ path, message }) => typeof path === "string" && typeof message === "string"),
  /** Whether a maximum, or the server's own of 8 MiB of paths, left something out; `maxDepth` alone does not. */
  truncated: Flag
})
export type WalkResult = typeof WalkResult.Type

/** The client's own name for an open file: at most 32 bytes, unique within its connection. */
const ofHandle = { handleId: Text }

/** All requests on files and directories. */
export class FileSystemApi extends RpcGroup.make(
  /** Gives the content of a regular file of at most 512 MiB. */
  request("fs/readFile", {
    family: "filesystem",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...following }),
    success: Schema.Struct({ dataBase64: Bytes })
  }),
  /** Creates a file or replaces its content; not atomic. Base64 is checked before the file is touched. */
  request("fs/writeFile", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...following, dataBase64: Text }),
    success: Empty
  }),
  /** Creates a directory; `recursive` (the default) with its parents, and it may exist. */
  request("fs/createDirectory", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...following, recursive: maybe(Flag) }),
    success: Empty
  }),
  /** Tells what a path leads to. */
  request("fs/getMetadata", {
    family: "filesystem",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...following }),
    success: FileMetadata
  }),
  /** Gives the path without links (now); it must exist. */
  request("fs/canonicalize", {
    family: "filesystem",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(onPath),
    success: Schema.Struct({ path: Text })
  }),
  /** Lists a directory in no order; what leads nowhere is left out. */
  request("fs/readDirectory", {
    family: "filesystem",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(onPath),
    success: Schema.Struct({
      entries: listOf<DirectoryEntry>(
        ({ fileName, isDirectory, isFile }) =>
          typeof fileName === "string" && typeof isDirectory === "boolean" && typeof isFile === "boolean"
      )
    })
  }),
  /** Lists everything below a directory (now); links to files and special files are left out. */
  request("fs/walk", {
    family: "filesystem",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, options: WalkOptions }),
    success: WalkResult
  }),
  /** Removes a file, a link itself, or a directory; `recursive` and `force` (nothing there is no error) by default. */
  request("fs/remove", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...following, recursive: maybe(Flag), force: maybe(Flag) }),
    success: Empty
  }),
  /** Copies a file, a link as a link, or with `recursive` a directory, into an existing one if there is one. */
  request("fs/copy", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      sourcePath: FilePath,
      destinationPath: FilePath,
      recursive: Flag,
      ...sandboxed
    }),
    success: Empty
  }),
  /** Opens a regular file for reading, or `replace`: empties or creates it for writing (now). */
  request("fs/open", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...onPath, ...ofHandle, mode: maybe(oneOf("read", "replace")) }),
    success: Schema.Struct(ofHandle)
  }),
  /** Reads from 1 byte to 1 MiB at an offset (now); `eof` says that fewer were there. */
  request("fs/readBlock", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...ofHandle, offset: Count, len: Count }),
    success: Schema.Struct({ chunk: Bytes, eof: Flag })
  }),
  /** Writes from 1 byte to 1 MiB at an offset (now); a gap before it reads as zeros. */
  request("fs/writeBlock", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...ofHandle, offset: Count, chunk: Bytes }),
    success: Empty
  }),
  /**
   * Waits for something to come to a place where nothing is (now): `fs/missingChanged` tells it, once. Up to 64 paths.
   * A connection has one watch, which one of another id replaces; while it waits, its own id is not taken again.
   */
  request("fs/watchMissing", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      watchId: Count,
      missing: sequenceOf(FilePath),
      /** Something that is there: also told is that it changes, but not what happens in a directory. */
      present: maybe(FilePath)
    }),
    /** Whether there will be a notification; if not, it is for the client to look. */
    success: Schema.Struct({ watching: Flag })
  }),
  /** Closes an open file (now); also without one it is no error. */
  request("fs/close", {
    family: "filesystem",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct(ofHandle),
    success: Empty
  })
) {}
