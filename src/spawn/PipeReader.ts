/**
 * Reads the pipes of children, and enlarges busy ones: at the default size, child and reader wake each other for every
 * chunk, which costs a fifth of the throughput (`node scratch/bench.mjs --only pipe,binary`).
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { type OnReadOpts, Socket, type SocketConstructorOpts } from "node:net"
import * as Posix from "./Posix.js"
import { maxChunkBytes, ReadBuffer } from "./ReadBuffer.js"

/** The capacity of an enlarged pipe. The default is 64 KiB. */
export const largePipeBytes = 262144

/**
 * The most enlarged pipes of a server at a time. Linux allows the pipes of one user 64 MiB
 * (`/proc/sys/fs/pipe-user-pages-soft`); beyond that, new pipes of that user get 8 KiB. These add 6 MiB.
 */
export const maxLargePipes = 32

/** How many reads must find a pipe full before it is enlarged, so that the system call pays. */
const patience = 8

/** The number of chunks that one read of an enlarged pipe may fill. */
const chunksAtOnce = 4

/** The pipes of one server. */
export class PipeReader {
  private readonly buffer = new ReadBuffer(chunksAtOnce)
  private readonly large = new Set<Socket>()

  /**
   * A stream that reports the bytes of a pipe, chunk by chunk. They are valid during the call. `isLarge`: whether the
   * pipe was enlarged before.
   */
  read(fd: number, onBytes: (bytes: Buffer) => void, isLarge = false): Socket {
    const { large } = this
    const { all, chunk } = this.buffer
    let timesFull = 0
    const count = () => {
      large.add(socket)
      socket.once("close", () => large.delete(socket))
    }
    const enlarge = () => {
      if (large.size >= maxLargePipes || !Posix.setPipeSize(fd, largePipeBytes)) return
      isLarge = true
      count()
    }
    const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
      fd,
      readable: true,
      writable: false,
      onread: {
        // Called first, and after each read, for the buffer of the next one.
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
    if (isLarge) count()
    return socket
  }

  /** Whether the pipe of a stream was enlarged. */
  isLarge(socket: Socket): boolean {
    return this.large.has(socket)
  }

  /** Reports the bytes that a pipe has, chunk by chunk; true at its end. They are valid during the call. */
  drain(fd: number, onBytes: (bytes: Buffer) => void): boolean {
    return this.buffer.drain(fd, onBytes)
  }
}
