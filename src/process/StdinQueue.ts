/**
 * Input queued for one child: in order, bounded in bytes, each writeId at most once.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import * as Immediate from "../internal/Immediate.js"
import type { LimitReached } from "../protocol/Failure.js"
import { type Allowance, unlimited, weightOf } from "./Allowance.js"
import type { StdinState } from "./ProcessImage.js"

/** The outcome of a write. */
export type WriteStatus = "accepted" | "stdinClosed"

/** The destination of input; `done` is called when the bytes were written. */
export interface Sink {
  readonly write: (bytes: Buffer, done: () => void) => void
  readonly endStdin: () => void
}

/** Limits on remembered writeIds: their number, and their characters in total. The oldest are forgotten. */
const maxIds = 16384
const maxIdChars = 4194304

interface Waiting {
  readonly bytes: Buffer
  readonly writeId: string | undefined
  readonly resumers: Set<(status: WriteStatus) => void>
}

/** Input for one child. */
export interface StdinQueue {
  /**
   * Queues bytes. The call fixes their place in the order; the effect completes when the queue has room. A write with a
   * known writeId has no effect and completes as the first one does. Fails if the session has no memory left.
   */
  readonly write: (bytes: Buffer, writeId: string | undefined) => Effect.Effect<WriteStatus, LimitReached>
  /** Ends stdin after everything queued. Idempotent. */
  readonly end: () => void
  /** Tells that the child has exited or closed its end: waiting writes are refused. */
  readonly close: () => void
  /** Its state, without what was passed to the child. Has no effect. */
  readonly freeze: (writer: ImageWriter) => StdinState
  /**
   * Takes over the state of the version of the server before; `unsent` was passed to the child then, and has to be
   * again: by the returned function, which calls its argument. Until then nothing is written.
   */
  readonly restore: (
    state: StdinState,
    reader: ImageReader,
    unsent: ReadonlyArray<Buffer>
  ) => (write: Sink["write"]) => void
}

/** The writeIds of one process, for all of its children. */
export class WriteIds {
  private readonly ids = new Set<string>()
  private chars = 0

  /** The caller takes their memory before `add`; it is given back when they are forgotten. */
  constructor(private readonly allowance: Allowance = unlimited) {}

  /** All of them, oldest first. */
  list(): ReadonlyArray<string> {
    return Array.from(this.ids)
  }

  /** Adds those of the version of the server before, and takes their memory. */
  restore(writeIds: ReadonlyArray<string>): void {
    for (const writeId of writeIds) {
      this.allowance.restore(weightOf(writeId))
      this.add(writeId)
    }
  }

  has(writeId: string): boolean {
    return this.ids.has(writeId)
  }

  add(writeId: string): void {
    this.ids.add(writeId)
    this.chars += writeId.length
    for (const oldest of this.ids) {
      if (this.ids.size <= maxIds && this.chars <= maxIdChars) break
      this.forget(oldest)
    }
  }

  /** Forgets all of them. */
  clear(): void {
    for (const id of this.ids) this.forget(id)
  }

  private forget(writeId: string): void {
    this.ids.delete(writeId)
    this.chars -= writeId.length
    this.allowance.give(weightOf(writeId))
  }
}

/**
 * A queue of at most `limit` bytes. A larger write passes when the queue is empty. Queued and waiting input is taken
 * from the allowance.
 */
export const make = (
  sink: Sink,
  limit: number,
  ids: WriteIds = new WriteIds(),
  allowance: Allowance = unlimited
): StdinQueue => {
  let state: "open" | "ending" | "closed" = "open"
  let queued = 0
  /** Whether queued bytes still count against the allowance: a dead child reports no writes as done. */
  let isTaken = true
  /** Whether input of the version of the server before comes first. */
  let isHeld = false
  const waiting: Array<Waiting> = []

  const hasRoom = (bytes: Buffer) => !isHeld && (queued === 0 || queued + bytes.length <= limit)
  const pass = (bytes: Buffer, writeId: string | undefined) => {
    if (writeId !== undefined) ids.add(writeId)
    if (bytes.length === 0) return
    queued += bytes.length
    send(bytes, sink.write)
  }
  const send = (bytes: Buffer, write: Sink["write"]) =>
    write(bytes, () => {
      queued -= bytes.length
      if (isTaken) allowance.give(bytes.length)
      admit()
    })
  const settle = (entry: Waiting, status: WriteStatus) => {
    for (const resume of entry.resumers) resume(status)
  }
  const admit = () => {
    for (let next = waiting[0]; next !== undefined && hasRoom(next.bytes); next = waiting[0]) {
      waiting.shift()
      pass(next.bytes, next.writeId)
      settle(next, "accepted")
    }
    if (state === "ending" && waiting.length === 0 && !isHeld) {
      state = "closed"
      sink.endStdin()
    }
  }
  const weigh = (bytes: Buffer, writeId: string | undefined) =>
    bytes.length + (writeId === undefined ? 0 : weightOf(writeId))
  /** Gives back the memory of a write that is not carried out. */
  const forgo = ({ bytes, writeId }: Waiting) => allowance.give(weigh(bytes, writeId))
  /** Bytes of waiting writes of clients that have disconnected. */
  const unheard = () =>
    waiting.reduce((sum, { bytes, resumers }) => (resumers.size === 0 ? sum + bytes.length : sum), 0)
  const wait = (entry: Waiting) =>
    Effect.async<WriteStatus>((resume) => {
      const resumer = (status: WriteStatus) => resume(Effect.succeed(status))
      entry.resumers.add(resumer)
      return Effect.sync(() => {
        entry.resumers.delete(resumer)
        // A received write is carried out even if its client has gone, and a retry by writeId joins it. The limit still
        // holds.
        const index = waiting.indexOf(entry)
        if (index === -1 || unheard() <= limit) return
        waiting.splice(index, 1)
        forgo(entry)
      })
    })

  return {
    write: (bytes, writeId) =>
      Immediate.make((): Effect.Effect<WriteStatus, LimitReached> => {
        if (writeId !== undefined) {
          if (ids.has(writeId)) return Effect.succeed<WriteStatus>("accepted")
          const first = waiting.find((entry) => entry.writeId === writeId)
          if (first !== undefined) return wait(first)
        }
        if (state !== "open") return Effect.succeed<WriteStatus>("stdinClosed")
        const refusal = allowance.take(weigh(bytes, writeId))
        if (refusal !== undefined) return Exit.fail(refusal)
        if (waiting.length === 0 && hasRoom(bytes)) {
          pass(bytes, writeId)
          return Effect.succeed<WriteStatus>("accepted")
        }
        const entry: Waiting = { bytes, writeId, resumers: new Set() }
        waiting.push(entry)
        return wait(entry)
      }),
    end: () => {
      if (state !== "open") return
      state = "ending"
      admit()
    },
    close: () => {
      state = "closed"
      for (const entry of waiting.splice(0)) {
        forgo(entry)
        settle(entry, "stdinClosed")
      }
      if (isTaken) allowance.give(queued)
      isTaken = false
    },
    freeze: (writer) => ({
      state,
      waiting: waiting.map(({ bytes, writeId }) => ({
        bytes: writer.bytes(bytes),
        ...(writeId === undefined ? {} : { writeId })
      }))
    }),
    restore: (frozen, reader, unsent) => {
      state = frozen.state
      isHeld = true
      for (const { bytes: section, writeId } of frozen.waiting) {
        const bytes = reader.bytes(section)
        allowance.restore(weigh(bytes, writeId))
        waiting.push({ bytes, writeId, resumers: new Set() })
      }
      for (const { length } of unsent) {
        queued += length
        allowance.restore(length)
      }
      return (write) => {
        isHeld = false
        for (const bytes of unsent) send(bytes, write)
        admit()
      }
    }
  }
}
