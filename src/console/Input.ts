/**
 * What is typed into one process. It arrives once and in order, also over a lost connection: each write has an id, and is
 * sent again until it was answered. What comes while the connection is lost waits for it, so that no part of a line arrives
 * without the others.
 *
 * @since 0.1.0
 */
import { toBase64 } from "./Bytes.js"
import { CallError, textOf } from "./Channel.js"
import type { Connection } from "./Connection.js"

/** How much may wait for an answer, in bytes. */
const maxPendingBytes = 1_048_576

/** How much one message has, in bytes. */
const chunkBytes = 65_536

interface Write {
  readonly writeId: string
  readonly bytes: Uint8Array
}

/** The input of one process. */
export class Input {
  private pending: Array<Write> = []
  private readonly prefix = crypto.randomUUID()
  private count = 0
  private readonly stop: () => void

  /** `onRefused` is told what becomes of input that does not arrive. */
  constructor(
    private readonly connection: Connection,
    private readonly about: { readonly session?: string; readonly processId: string },
    private readonly onRefused: (why: string) => void
  ) {
    this.stop = connection.whenOnline(() => {
      for (const write of this.pending) this.send(write)
    })
  }

  /** Writes, or says why not. */
  write(bytes: Uint8Array): void {
    const waiting = this.pending.reduce((sum, one) => sum + one.bytes.length, bytes.length)
    if (this.connection.state.value._tag === "Stopped") this.onRefused("not sent: there is no connection")
    else if (waiting > maxPendingBytes) this.onRefused("not sent: the process does not read its input")
    else this.queue(bytes)
  }

  private queue(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const write = { writeId: `${this.prefix}-${++this.count}`, bytes: bytes.subarray(at, at + chunkBytes) }
      this.pending.push(write)
      if (this.connection.isOnline) this.send(write)
    }
  }

  /** Nothing is sent again. */
  close(): void {
    this.stop()
    this.pending = []
  }

  private send(write: Write): void {
    const { writeId, bytes } = write
    const params = { ...this.about, writeId, chunk: toBase64(bytes) }
    // A process may leave its input unread for as long as it likes.
    this.connection.call("process/write", params, 2 ** 31 - 1).then(
      ({ status }) => {
        this.forget(write)
        if (status === "stdinClosed") this.onRefused("not sent: its input is closed")
        else if (status !== "accepted") this.onRefused("not sent: the process is not there")
      },
      (error) => {
        if (error instanceof CallError && error.failure._tag === "Disconnected") return
        this.forget(write)
        this.onRefused(`not sent: ${textOf(error)}`)
      }
    )
  }

  private forget(write: Write): void {
    this.pending = this.pending.filter((other) => other !== write)
  }
}
