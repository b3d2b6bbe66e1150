/**
 * Writes the input of a child without blocking: what its pipe or terminal does not accept yet is queued. It is known to
 * the byte what was accepted.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { writeSync } from "node:fs"
import * as OsError from "../protocol/OsError.js"
import * as Posix from "./Posix.js"

/** The input of one child. */
export interface InputWriter {
  /** Queues bytes. `done` is called when they have been accepted. */
  readonly write: (bytes: Buffer, done: () => void) => void
  /** Discards the queue. */
  readonly close: () => void
  /** The bytes that have not been accepted. Valid until the next turn of the event loop. */
  readonly unsent: () => ReadonlyArray<Buffer>
}

/**
 * A writer to a descriptor, which must be non-blocking: the master of a terminal, or the write end of a pipe. After a
 * failure it is closed, and calls `onFailure`, possibly from within `write`.
 */
export const make = (fd: number, onFailure: () => void = () => {}): InputWriter => {
  const queue: Array<{ bytes: Buffer; readonly done: () => void }> = []
  let cancel: (() => void) | undefined
  let closed = false
  let pumping = false

  const close = () => {
    closed = true
    cancel?.()
    cancel = undefined
    queue.length = 0
  }

  const pump = () => {
    cancel = undefined
    pumping = true
    writeAll()
    pumping = false
  }

  const writeAll = () => {
    for (let next = queue[0]; next !== undefined; next = queue[0]) {
      try {
        if (next.bytes.length > 0) next.bytes = next.bytes.subarray(writeSync(fd, next.bytes))
      } catch (error) {
        if (OsError.codeOf(error) !== "EAGAIN") {
          close()
          return onFailure()
        }
      }
      if (next.bytes.length > 0) {
        // Another attempt would only fail, which costs more than waiting.
        cancel = Posix.onWritable(fd, pump)
        return
      }
      queue.shift()
      next.done()
    }
  }

  return {
    write: (bytes, done) => {
      if (closed) return
      queue.push({ bytes, done })
      // A write from within `done` is picked up by the loop that called it.
      if (!pumping && cancel === undefined) pump()
    },
    close,
    unsent: () => queue.flatMap(({ bytes }) => (bytes.length === 0 ? [] : [bytes]))
  }
}
