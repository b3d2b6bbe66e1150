/**
 * Reads without allocating: all reads of a server's children share one buffer. The event loop reads one descriptor at a
 * time, and listeners use the bytes only during the call.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { readSync } from "node:fs"
import type { OnReadOpts, SocketConstructorOpts } from "node:net"
import * as OsError from "../protocol/OsError.js"

/**
 * The largest chunk. The protocol and a pipe allow 64 KiB. Leaving 128 bytes for a binary frame's header keeps it in
 * one segment of the loopback interface, which is a tenth faster (`npm run bench -- --only binary`).
 */
export const maxChunkBytes = 65408

/** The most that is drained from a descriptor whose writers may never stop. */
const maxDrainBytes = 1048576

/** The read buffer of one server. */
export class ReadBuffer {
  /** The whole buffer. */
  readonly all: Buffer
  /** A part of it, as large as one chunk. */
  readonly chunk: Buffer

  /** Makes a buffer for this many chunks. */
  constructor(chunks = 1) {
    this.all = Buffer.allocUnsafeSlow(chunks * maxChunkBytes)
    this.chunk = this.all.subarray(0, maxChunkBytes)
  }

  /** Reads what the kernel holds for a non-blocking descriptor; true at the end of the input. */
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

  /** Options for a socket that reads into the buffer and reports the bytes, which are valid during the call. */
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
