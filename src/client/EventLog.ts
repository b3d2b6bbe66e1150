/**
 * The events of one process, in order, for any number of readers.
 *
 * Events may arrive out of order and more than once. The log retains the latest events for new readers. For slow
 * readers it keeps more, up to a limit; beyond it, a reader gets a `Missed` event.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ReadResult } from "../protocol/ExecApi.js"
import type { ClientError } from "./ClientError.js"
import { type Exit, lengthOf, type Numbered, ProcessEvent } from "./ProcessEvent.js"

/** Retained events. */
const replayEvents = 256

/** Retained output, in bytes. */
const replayBytes = 1048576

/** The most output kept for a slow reader, in bytes. */
const lagBytes = 8388608

/** The size of an event besides its output, in bytes. */
const eventCost = 128

/** The most events, and bytes of output, that wait for missing earlier ones. */
const maxHeld = 1024
const maxHeldBytes = 1048576

/**
 * The most missing events that count as restarts during a lost connection. A larger gap means that the server is wrong.
 */
const maxUnheardRestarts = 65536

/** Retained restarts, for readers that are behind. */
const keptRestarts = 256

/** The position of a reader. */
export interface Cursor {
  seq: number
  /** Bytes of output before it. */
  bytes: number
}

/** Acknowledgement of output, each time that so many bytes more were read. */
export interface Acknowledgements {
  readonly everyBytes: number
  readonly acknowledge: (seq: number) => void
}

/** What follows a cursor. */
export type Step =
  | { readonly _tag: "Events"; readonly events: ReadonlyArray<Numbered> }
  /** The next event is no longer kept. */
  | { readonly _tag: "Behind" }
  | { readonly _tag: "Wait" }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failed"; readonly error: ClientError }

/** The events of one process. */
export class EventLog {
  /** The `seq` of the last published event. */
  last = 0
  private exited: Extract<Numbered, { readonly _tag: "Exited" }> | undefined
  private readonly restarts: Array<Numbered> = []
  private closed = false
  private failure: ClientError | undefined
  private readonly events: Array<Numbered> = []
  private bytes = 0
  private evictedBytes = 0
  private readonly held = new Map<number, Numbered>()
  private heldBytes = 0
  private gap = false
  private readonly cursors = new Set<Cursor>()
  private readonly waiters = new Set<() => void>()
  private acknowledgedBytes = 0

  /**
   * Calls `onGap` when an event arrives before an earlier one, and again for each further gap. `mayRestart`: whether
   * the process may be restarted; `process/read` does not return the seqs of restarts. With `acks`, tells how far all
   * readers have read.
   */
  constructor(
    private readonly onGap: () => void,
    private readonly mayRestart = false,
    private readonly acks?: Acknowledgements
  ) {}

  /** Starts the log after a `seq`, before any event. Earlier events, with `bytes` of output, are gone. */
  begin(last: number, bytes: number): void {
    this.last = last
    this.evictedBytes = bytes
    for (const seq of this.held.keys()) if (seq <= last) this.drop(seq)
  }

  get exit(): Exit | undefined {
    return this.exited
  }

  get isClosed(): boolean {
    return this.closed
  }

  get error(): ClientError | undefined {
    return this.failure
  }

  /** Whether the log is complete: no event will follow. */
  get isOver(): boolean {
    return this.closed || this.failure !== undefined
  }

  /** Whether an event waits for missing earlier ones. */
  get hasGap(): boolean {
    return this.gap && !this.isOver
  }

  /** The first of the events that wait for missing earlier ones. */
  get firstHeld(): number | undefined {
    return this.held.size === 0 ? undefined : Math.min(...this.held.keys())
  }

  /** Adds an event that arrived. */
  accept(event: Numbered): void {
    if (this.isOver || event.seq <= this.last) return
    if (event.seq > this.last + 1) {
      this.hold(event)
      return
    }
    for (let next: Numbered | undefined = event; next !== undefined; next = this.held.get(this.last + 1)) {
      this.publish(next)
    }
    if (this.held.size === 0) this.gap = false
    this.trim()
    this.acknowledge()
    this.wake()
  }

  /** Adds the server's retained output after `last`. False if a gap remains that cannot be filled. */
  recover(read: ReadResult): boolean {
    if (this.isOver) return true
    const through = read.nextSeq - 1
    const found = new Map(this.held)
    for (const { seq, stream, chunk } of read.chunks) found.set(seq, ProcessEvent.Output({ seq, stream, chunk }))
    if (read.closed) found.set(through, ProcessEvent.Closed({ seq: through }))
    const missing: Array<number> = []
    // If nothing was dropped, the missing seqs of a process that may restart are its restarts.
    const restarts = this.mayRestart && !read.truncated
    // One of them may be the exit.
    const enough = restarts ? maxUnheardRestarts + 2 : 2
    for (let seq = this.last + 1; seq <= through && missing.length < enough; seq++) {
      if (!found.has(seq)) missing.push(seq)
    }
    const known = this.exited !== undefined || Array.from(this.held.values()).some(({ _tag }) => _tag === "Exited")
    // `process/read` does not return the exit either; it follows them.
    const seq = read.exited && !known ? missing.pop() : undefined
    if (missing.length > (restarts ? maxUnheardRestarts : 0)) return false
    for (const seq of missing) found.set(seq, ProcessEvent.Restarted({ seq, attempt: undefined, pid: undefined }))
    if (read.exited && !known) {
      const { exitCode, signal, sandboxDenied, timedOut, oomKilled } = read
      const exit = ProcessEvent.Exited({ seq: seq ?? 0, exitCode, signal, sandboxDenied, timedOut, oomKilled })
      // Without a number the exit precedes the log: there is no event for it, but the status is known.
      if (seq === undefined) this.exited = exit
      else found.set(seq, exit)
    }
    for (let seq = this.last + 1; seq <= through; seq++) {
      const event = found.get(seq)
      if (event !== undefined) this.accept(event)
    }
    // Waiting events that did not fit are part of this output.
    this.gap = this.held.size > 0
    return true
  }

  /** Ends the log with an error: readers fail after the last available event. */
  fail(error: ClientError): void {
    if (this.isOver) return
    this.failure = error
    this.held.clear()
    this.wake()
  }

  /** Keeps events for a reader until `detach`. */
  attach(cursor: Cursor): void {
    this.cursors.add(cursor)
  }

  detach(cursor: Cursor): void {
    this.cursors.delete(cursor)
    this.trim()
    this.acknowledge()
  }

  /** Returns the events after a cursor, and moves it past them. */
  take(cursor: Cursor): Step {
    const index = cursor.seq + 1 - this.first
    if (index < 0) return { _tag: "Behind" }
    if (index < this.events.length) {
      const events = this.events.slice(index)
      cursor.seq = this.last
      cursor.bytes = this.evictedBytes + this.bytes
      this.trim()
      this.acknowledge()
      return { _tag: "Events", events }
    }
    if (this.closed) return { _tag: "Done" }
    return this.failure === undefined ? { _tag: "Wait" } : { _tag: "Failed", error: this.failure }
  }

  /** Moves a cursor that is behind to the kept events: returns the server's retained output and a `Missed` event. */
  catchUp(cursor: Cursor, chunks: ReadResult["chunks"]): ReadonlyArray<ProcessEvent> {
    const fromSeq = cursor.seq + 1
    const throughSeq = this.first - 1
    const found: Array<Numbered> = chunks
      .filter(({ seq }) => seq >= fromSeq && seq <= throughSeq)
      .map(({ seq, stream, chunk }) => ProcessEvent.Output({ seq, stream, chunk }))
    // `process/read` does not return restarts.
    for (const event of [...this.restarts, ...(this.exited === undefined ? [] : [this.exited])]) {
      if (event.seq >= fromSeq && event.seq <= throughSeq) found.push(event)
    }
    found.sort((a, b) => a.seq - b.seq)
    const events = Math.max(0, throughSeq - cursor.seq - found.length)
    const bytes = this.evictedBytes - cursor.bytes - found.reduce((total, event) => total + lengthOf(event), 0)
    cursor.seq = Math.max(cursor.seq, throughSeq)
    cursor.bytes = Math.max(cursor.bytes, this.evictedBytes)
    if (events === 0) return found
    const next = found.findIndex(({ seq }, index) => seq !== fromSeq + index)
    const before = next === -1 ? found.length : next
    const missed = ProcessEvent.Missed({ fromSeq: fromSeq + before, throughSeq, events, bytes })
    return [...found.slice(0, before), missed, ...found.slice(before)]
  }

  /** Waits until a condition holds; checked after each change of the log. */
  until(ready: () => boolean): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const waiter = () => {
        if (ready() && this.waiters.delete(waiter)) resume(Effect.void)
      }
      this.waiters.add(waiter)
      waiter()
      return Effect.sync(() => this.waiters.delete(waiter))
    })
  }

  /** The number of the oldest event that is kept. */
  private get first(): number {
    return this.last - this.events.length + 1
  }

  private hold(event: Numbered): void {
    const opened = !this.gap
    this.gap = true
    const length = lengthOf(event)
    // Beyond the limit, readers depend on the server's retention.
    if (!this.held.has(event.seq) && this.held.size < maxHeld && this.heldBytes + length <= maxHeldBytes) {
      this.held.set(event.seq, event)
      this.heldBytes += length
    }
    if (opened) this.onGap()
  }

  private drop(seq: number): void {
    const event = this.held.get(seq)
    if (event === undefined) return
    this.held.delete(seq)
    this.heldBytes -= lengthOf(event)
  }

  private publish(event: Numbered): void {
    this.drop(event.seq)
    this.last = event.seq
    this.events.push(event)
    this.bytes += lengthOf(event)
    if (event._tag === "Exited") this.exited = event
    if (event._tag === "Restarted") {
      this.restarts.push(event)
      if (this.restarts.length > keptRestarts) this.restarts.shift()
    }
    if (event._tag === "Closed") {
      this.closed = true
      this.held.clear()
    }
  }

  private trim(): void {
    for (;;) {
      const oldest = this.events[0]
      if (oldest === undefined || (this.events.length <= replayEvents && this.bytes <= replayBytes)) return
      const bounded = this.bytes + this.events.length * eventCost <= lagBytes
      if (bounded && this.isAwaited(oldest)) return
      this.events.shift()
      this.bytes -= lengthOf(oldest)
      this.evictedBytes += lengthOf(oldest)
    }
  }

  private isAwaited({ seq }: Numbered): boolean {
    for (const cursor of this.cursors) if (cursor.seq < seq) return true
    return false
  }

  /** Without readers, what arrives counts as read. */
  private acknowledge(): void {
    const { acks } = this
    if (acks === undefined || this.isOver) return
    let slowest: Cursor = { seq: this.last, bytes: this.evictedBytes + this.bytes }
    for (const cursor of this.cursors) if (cursor.seq < slowest.seq) slowest = cursor
    if (slowest.bytes - this.acknowledgedBytes < acks.everyBytes) return
    this.acknowledgedBytes = slowest.bytes
    acks.acknowledge(slowest.seq)
  }

  private wake(): void {
    for (const waiter of Array.from(this.waiters)) waiter()
  }
}
