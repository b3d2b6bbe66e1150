/**
 * How a server and its file workers talk: frames of two lengths, JSON, and bytes as they are.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { FileError } from "../filesystem/SystemError.js"
import type { FileMetadata, WalkOptions } from "../protocol/FileSystemApi.js"

/** What is asked of a worker. Paths are bytes, written as Latin-1. */
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

/** What a worker answers, by the kind of call; bytes travel beside it. */
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

/** A worker has made the confinement its root; from then on it answers. */
export type Header =
  | { readonly ready: true }
  | { readonly id: number; readonly call: Call }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: readonly [tag: FileError["_tag"], message: string] }

/** The most that one frame holds, in bytes: the largest file, and more names than any answer lists. */
const maxPayload = 600_000_000
const maxHeader = 134_217_728

/** A path as a JSON string: one character for each byte, since paths need not be UTF-8. */
export const toText = (path: Buffer): string => path.toString("latin1")

/** The path that `toText` has written. */
export const toBytes = (text: string): Buffer => Buffer.from(text, "latin1")

/** One frame, in pieces. */
export const encode = (header: Header, payload: Buffer): ReadonlyArray<Buffer> => {
  const json = Buffer.from(JSON.stringify(header))
  const lengths = Buffer.alloc(8)
  lengths.writeUInt32BE(json.length, 0)
  lengths.writeUInt32BE(payload.length, 4)
  return payload.length === 0 ? [Buffer.concat([lengths, json])] : [Buffer.concat([lengths, json]), payload]
}

/** Puts frames together from whatever pieces they arrive in. */
export class Reader {
  private pieces: Array<Buffer> = []
  private size = 0
  private wanted = 8
  private lengths: readonly [header: number, payload: number] | undefined

  constructor(private readonly onFrame: (header: Header, payload: Buffer) => void) {}

  /** Takes what has arrived; throws if that cannot be a frame. */
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
        // The other side of a private pipe is of the same version.
        this.onFrame(JSON.parse(taken.toString("utf8", 0, header)) as Header, taken.subarray(header))
      }
    }
  }
}
