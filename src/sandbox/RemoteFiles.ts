/**
 * The client side of the file worker: a file system whose operations a worker runs.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type { DirectoryEntry, Files } from "../filesystem/FileSystem.js"
import type { OpenFile } from "../filesystem/OpenFile.js"
import type { FileError } from "../filesystem/SystemError.js"
import { type Answers, type Call, toBytes, toText } from "./Frames.js"

/** Sends a call and its payload to the worker; returns the result and its payload. */
export type Ask = <C extends Call>(
  call: C,
  payload?: Buffer
) => Effect.Effect<{ readonly value: Answers[C["call"]]; readonly payload: Buffer }, FileError>

const openFile = (ask: Ask, handle: number, size: number): OpenFile => ({
  size,
  readAll: (limit) => Effect.map(ask({ call: "readAll", handle, limit }), ({ payload }) => payload),
  read: (offset, length) => Effect.map(ask({ call: "read", handle, offset, length }), ({ payload }) => payload),
  write: (offset, bytes) => Effect.asVoid(ask({ call: "write", handle, offset }, bytes))
})

/** Makes a file system that sends each operation to a worker. */
export const make = (ask: Ask): Files => ({
  open: (path, mode, { followSymlinks }) =>
    Effect.acquireRelease(ask({ call: "open", path: toText(path), mode, followSymlinks }), ({ value: { handle } }) =>
      Effect.ignore(ask({ call: "close", handle }))
    ).pipe(Effect.map(({ value: { handle, size } }) => openFile(ask, handle, size))),
  createDirectory: (path, options) => Effect.asVoid(ask({ call: "createDirectory", path: toText(path), options })),
  getMetadata: (path, { followSymlinks }) =>
    Effect.map(ask({ call: "getMetadata", path: toText(path), followSymlinks }), ({ value }) => value),
  canonicalize: (path) => Effect.map(ask({ call: "canonicalize", path: toText(path) }), ({ value }) => toBytes(value)),
  readDirectory: (path) =>
    Effect.map(ask({ call: "readDirectory", path: toText(path) }), ({ value }) =>
      value.map(([name, isDirectory, isFile]): DirectoryEntry => ({ name: toBytes(name), isDirectory, isFile }))
    ),
  walk: (path, options) =>
    Effect.map(ask({ call: "walk", path: toText(path), options }), ({ value: { entries, errors, truncated } }) => ({
      entries: entries.map(([path, isDirectory]) => ({
        path: toBytes(path),
        kind: isDirectory ? ("directory" as const) : ("file" as const)
      })),
      errors: errors.map(([path, message]) => ({ path: toBytes(path), message })),
      truncated
    })),
  remove: (path, options) => Effect.asVoid(ask({ call: "remove", path: toText(path), options })),
  copy: (source, destination, recursive) =>
    Effect.asVoid(ask({ call: "copy", path: toText(source), to: toText(destination), recursive }))
})
