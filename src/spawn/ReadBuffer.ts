/**
 * Reading without allocating: every read of every child of a server lands in one buffer. The event loop reads one
 * descriptor at a time, and whoever is told of the bytes is done with them when it returns.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { readSync } from "node:fs"
import type { OnReadOpts, SocketConstructorOpts } from "node:net"
import * as OsError from "../protocol/OsError.js"

/**
 * The largest chunk. The protocol allows 64 KiB, which is what a pipe holds; but this many in a binary frame are one
 * segment of the loopback interface, and 128 more are two, at a tenth less a second (`npm run bench -- --only binary`).
 */
export const maxChunkBytes = 65408

/** How much is read of a descriptor whose other end may never stop writing. */
const maxDrainBytes = 1048576

/** What reads of one server land in. */
export class ReadBuffer {
  /** All of it. */
  readonly all: Buffer
  /** As much of it as one chunk takes. */
  readonly chunk: Buffer

  /** With room for so many chunks. */
  constructor(chunks = 1) {
    this.all = Buffer.allocUnsafeSlow(chunks * maxChunkBytes)
    this.chunk = this.all.subarray(0, maxChunkBytes)
  }

  /** Reads what the kernel holds for a non-blocking descriptor; true when there will never be more. */
  drain(fd: number, onBytes: (bytes: Buffer) => void): boolean {
    const { chunk } = this
    for (let total = 0; total < maxDrainBytes; ) {
      try {
        const length = readSync(fd, chunk)
        if (length === 0) return true
        total += length
        onBytes(chunk.subarray(0, length))
      } catch (error) {
        return OsError.codeOf(error) !== "EAGAIN"
      }
    }
    return false
  }

  /** Options for a socket that reads into the buffer and reports what is there, valid during the call. */
  readInto(onBytes: (bytes: Buffer) => void): SocketConstructorOpts {
    const { chunk } = this
    const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
      onread: {
        buffer: chunk,
        callback: (length) => {
          onBytes(chunk.subarray(0, length))
          return true
        }
      }
    }
    return options
  }
}
