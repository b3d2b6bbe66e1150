/**
 * Reading without allocating: every read of every child lands in one buffer. The event loop reads one descriptor at a
 * time, and whoever is told of the bytes is done with them when it returns.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { OnReadOpts, SocketConstructorOpts } from "node:net"

/** The largest chunk of the protocol, and a pipe's capacity. */
export const maxChunkBytes = 65536

/** The buffer. */
export const readBuffer = Buffer.allocUnsafeSlow(maxChunkBytes)

/** Options for a socket that reads into the buffer and reports what is there, valid during the call. */
export const readInto = (onBytes: (bytes: Buffer) => void): SocketConstructorOpts => {
  const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
    onread: {
      buffer: readBuffer,
      callback: (length) => {
        onBytes(readBuffer.subarray(0, length))
        return true
      }
    }
  }
  return options
}
