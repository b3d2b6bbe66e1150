/**
 * Writes to a terminal without blocking: input that the terminal does not accept yet is queued.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { writeSync } from "node:fs"
import * as OsError from "../protocol/OsError.js"
import * as Posix from "./Posix.js"

/** The input of one terminal. */
export interface PtyWriter {
  /** Queues bytes. `done` is called when the terminal has accepted them. */
  readonly write: (bytes: Buffer, done: () => void) => void
  /** Discards the queue. */
  readonly close: () => void
}

/** A writer to the master of a terminal, which must be non-blocking. */
export const make = (fd: number): PtyWriter => {
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
        const written = writeSync(fd, next.bytes)
        next.bytes = next.bytes.subarray(written)
      } catch (error) {
        if (OsError.codeOf(error) !== "EAGAIN") return close()
        cancel = Posix.onWritable(fd, pump)
        return
      }
      if (next.bytes.length === 0) {
        queue.shift()
        next.done()
      }
    }
  }

  return {
    write: (bytes, done) => {
      if (closed) return
      queue.push({ bytes, done })
      // A write from within `done` is picked up by the loop that called it.
      if (!pumping && cancel === undefined) pump()
    },
    close
  }
}
