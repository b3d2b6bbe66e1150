/**
 * Reads without allocating: all reads of a server's children share one buffer. The event loop reads one descriptor at a
 * time, and listeners use the bytes only during the call.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { OnReadOpts, SocketConstructorOpts } from "node:net"
import * as Posix from "./Posix.js"

/**
 * The largest chunk. The protocol and a pipe allow 64 KiB. Leaving 128 bytes for a binary frame's header keeps it in
 * one segment of the loopback interface, which is a tenth faster (`npm run bench -- --only binary`).
 */
export const maxChunkBytes = 65408

/** The most that is drained from a descriptor whose writers may never stop. */
const maxDrainBytes = 1048576

/** After fewer bytes a terminal is not read on: the answer to a key comes alone, and looking for more would delay it. */
const minReadOn = 256

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
    for (let total = 0; total < maxDrainBytes; ) {
      const length = Posix.readAvailable(fd, this.chunk)
      if (length === undefined) return true
      if (length === 0) return false
      total += length
      onBytes(this.chunk.subarray(0, length))
    }
    return false
  }

  /**
   * Options for a socket that reads into the buffer and reports the bytes, which are valid during the call. A terminal
   * gives about 4 kB at a time, so `terminal`, its descriptor, is read on until nothing is left or the buffer is full:
   * being woken and telling of a chunk cost more than reading (`node scratch/bench.mjs --only pty`).
   */
  readInto(onBytes: (bytes: Buffer) => void, terminal?: number): SocketConstructorOpts {
    const { chunk } = this
    const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
      onread: {
        buffer: chunk,
        callback: (length) => {
          const more = terminal === undefined || length < minReadOn ? 0 : Posix.readAvailable(terminal, chunk, length)
          onBytes(chunk.subarray(0, length + (more ?? 0)))
          return true
        }
      }
    }
    return options
  }
}
