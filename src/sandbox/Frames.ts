/**
 * The protocol between a server and its file workers. A frame is two 32-bit lengths (big-endian), a JSON header and a
 * binary payload.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { FileError } from "../filesystem/SystemError.js"
import type { FileMetadata, WalkOptions } from "../protocol/FileSystemApi.js"

/** A call to a worker. Paths are bytes, encoded as Latin-1. */
export type Call =
  | {
      readonly call: "open"
      readonly path: string
      readonly mode: "read" | "replace"
      readonly followSymlinks: boolean
    }
  | { readonly call: "readAll"; readonly handle: number; readonly limit: number }
  | { readonly call: "read"; readonly handle: number; readonly offset: number; readonly length: number }
  | { readonly call: "write"; readonly handle: number; readonly offset: number }
  | { readonly call: "close"; readonly handle: number }
  | {
      readonly call: "createDirectory"
      readonly path: string
      readonly options: { readonly recursive: boolean; readonly followSymlinks: boolean }
    }
  | { readonly call: "getMetadata"; readonly path: string; readonly followSymlinks: boolean }
  | { readonly call: "canonicalize"; readonly path: string }
  | { readonly call: "readDirectory"; readonly path: string }
  | { readonly call: "walk"; readonly path: string; readonly options: WalkOptions }
  | {
      readonly call: "remove"
      readonly path: string
      readonly options: { readonly recursive: boolean; readonly force: boolean; readonly followSymlinks: boolean }
    }
  | { readonly call: "copy"; readonly path: string; readonly to: string; readonly recursive: boolean }

/** The results of calls; bytes are in the payload. */
export interface Answers {
  readonly open: { readonly handle: number; readonly size: number }
  readonly readAll: null
  readonly read: null
  readonly write: null
  readonly close: null
  readonly createDirectory: null
  readonly getMetadata: FileMetadata
  readonly canonicalize: string
  readonly readDirectory: ReadonlyArray<readonly [name: string, isDirectory: boolean, isFile: boolean]>
  readonly walk: {
    readonly entries: ReadonlyArray<readonly [path: string, isDirectory: boolean]>
    readonly errors: ReadonlyArray<readonly [path: string, message: string]>
    readonly truncated: boolean
  }
  readonly remove: null
  readonly copy: null
}

/**
 * A frame's header. A worker sends `ready` once the confinement is its root, and `hung` for each operation with a
 * system call that has timed out, because a thread is lost. `cancel` stops the call with this id, which then gets no
 * answer.
 */
export type Header =
  | { readonly ready: true }
  | { readonly hung: true }
  | { readonly cancel: number }
  | { readonly id: number; readonly call: Call }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: readonly [tag: FileError["_tag"], message: string] }

/** The largest payload, in bytes: above the largest file of `fs/readFile`. */
const maxPayload = 600_000_000

/** The largest header, in bytes: above the longest directory listing. */
const maxHeader = 134_217_728

/** Encodes the bytes of a path for JSON, as Latin-1. */
export const toText = (path: Buffer): string => path.toString("latin1")

/** Decodes a path from `toText`. */
export const toBytes = (text: string): Buffer => Buffer.from(text, "latin1")

/** Encodes a frame as buffers to write in order; the payload is not copied. */
export const encode = (header: Header, payload: Buffer): ReadonlyArray<Buffer> => {
  const json = Buffer.from(JSON.stringify(header))
  const lengths = Buffer.alloc(8)
  lengths.writeUInt32BE(json.length, 0)
  lengths.writeUInt32BE(payload.length, 4)
  return payload.length === 0 ? [Buffer.concat([lengths, json])] : [Buffer.concat([lengths, json]), payload]
}

/** Reassembles frames from the chunks of a stream. */
export class Reader {
  private pieces: Array<Buffer> = []
  private size = 0
  private wanted = 8
  private lengths: readonly [header: number, payload: number] | undefined

  constructor(private readonly onFrame: (header: Header, payload: Buffer) => void) {}

  /** Adds a chunk; throws if a frame is too large or its header is not JSON. */
  push(piece: Buffer): void {
    this.pieces.push(piece)
    this.size += piece.length
    while (this.size >= this.wanted) {
      const [first = piece] = this.pieces
      const all = this.pieces.length === 1 ? first : Buffer.concat(this.pieces, this.size)
      const taken = all.subarray(0, this.wanted)
      this.pieces = [all.subarray(this.wanted)]
      this.size -= this.wanted
      if (this.lengths === undefined) {
        const [header, payload] = [taken.readUInt32BE(0), taken.readUInt32BE(4)]
        if (header > maxHeader || payload > maxPayload) throw new Error("a frame is too large")
        this.lengths = [header, payload]
        this.wanted = header + payload
      } else {
        const [header] = this.lengths
        this.lengths = undefined
        this.wanted = 8
        // The cast is safe: server and worker are the same version.
        this.onFrame(JSON.parse(taken.toString("utf8", 0, header)) as Header, taken.subarray(header))
      }
    }
  }
}
