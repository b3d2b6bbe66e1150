/**
 * Reads the pipes of children, and makes larger what much comes through: a child and a reader that wake each other for
 * every chunk have four fifths of the rate (`node scratch/bench.mjs --only pipe,binary`).
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { type OnReadOpts, Socket, type SocketConstructorOpts } from "node:net"
import * as Posix from "./Posix.js"
import { chunkBuffer, maxChunkBytes, readBuffer } from "./ReadBuffer.js"

/** What a pipe of much output holds; by itself it is 64 KiB. */
export const largePipeBytes = 262144

/**
 * How many pipes are large at a time. Linux lets the pipes of one user hold 64 MiB (`/proc/sys/fs/pipe-user-pages-soft`)
 * before new ones, anybody's, get 8 KiB: these add 6 MiB to what they would hold anyway.
 */
export const maxLargePipes = 32

/** A pipe is found full this many times before it is made larger, so that it is worth the system call. */
const patience = 8

const largePipes = new Set<Socket>()

/** What the read that comes next may fill. One for all: Node.js asks for it right after each read, before any other. */
let room = chunkBuffer
const nextRoom = () => room

/** A stream that reports what comes through a pipe, chunk by chunk; the bytes are valid during the call. */
export const read = (fd: number, onBytes: (bytes: Buffer) => void): Socket => {
  let timesFull = 0
  let isLarge = false
  const enlarge = () => {
    if (largePipes.size >= maxLargePipes || !Posix.setPipeSize(fd, largePipeBytes)) return
    isLarge = true
    largePipes.add(socket)
    socket.once("close", () => largePipes.delete(socket))
  }
  const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
    fd,
    readable: true,
    writable: false,
    onread: {
      buffer: nextRoom,
      callback: (length) => {
        if (!isLarge && length === maxChunkBytes && ++timesFull % patience === 0) enlarge()
        room = isLarge ? readBuffer : chunkBuffer
        for (let start = 0; start < length; start += maxChunkBytes) {
          onBytes(readBuffer.subarray(start, Math.min(start + maxChunkBytes, length)))
        }
        return true
      }
    }
  }
  room = chunkBuffer
  const socket = new Socket(options)
  return socket
}
