/**
 * Reads the pipes of children, and enlarges busy ones: a child and a reader that wake each other for every chunk
 * have four fifths of the throughput (`node scratch/bench.mjs --only pipe,binary`).
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { type OnReadOpts, Socket, type SocketConstructorOpts } from "node:net"
import * as Posix from "./Posix.js"
import { maxChunkBytes, ReadBuffer } from "./ReadBuffer.js"

/** What a pipe of much output holds; by itself it is 64 KiB. */
export const largePipeBytes = 262144

/**
 * How many pipes of a server are large at a time. Linux lets the pipes of one user hold 64 MiB (`/proc/sys/fs/pipe-user-pages-soft`)
 * before new ones, anybody's, get 8 KiB: these add 6 MiB to what they would hold anyway.
 */
export const maxLargePipes = 32

/** A pipe is found full this many times before it is made larger, so that it is worth the system call. */
const patience = 8

/** Chunks that one read of a large pipe may fill. */
const chunksAtOnce = 4

/** The pipes of one server. */
export class PipeReader {
  private readonly buffer = new ReadBuffer(chunksAtOnce)
  private readonly large = new Set<Socket>()

  /** A stream that reports what comes through a pipe, chunk by chunk; the bytes are valid during the call. */
  read(fd: number, onBytes: (bytes: Buffer) => void): Socket {
    const { large } = this
    const { all, chunk } = this.buffer
    let timesFull = 0
    let isLarge = false
    const enlarge = () => {
      if (large.size >= maxLargePipes || !Posix.setPipeSize(fd, largePipeBytes)) return
      isLarge = true
      large.add(socket)
      socket.once("close", () => large.delete(socket))
    }
    const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
      fd,
      readable: true,
      writable: false,
      onread: {
        // What the next read may fill: asked for at first, and after each read.
        buffer: () => (isLarge ? all : chunk),
        callback: (length) => {
          if (!isLarge && length === maxChunkBytes && ++timesFull % patience === 0) enlarge()
          for (let start = 0; start < length; start += maxChunkBytes) {
            onBytes(all.subarray(start, Math.min(start + maxChunkBytes, length)))
          }
          return true
        }
      }
    }
    const socket = new Socket(options)
    return socket
  }

  /** Reports what is left in a pipe, chunk by chunk; the bytes are valid during the call. */
  drain(fd: number, onBytes: (bytes: Buffer) => void): void {
    this.buffer.drain(fd, onBytes)
  }
}
