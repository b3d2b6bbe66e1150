/**
 * One viewer of a process. It has a place of its own in the retained output, reads on from there as its client
 * acknowledges, and skips what is no longer retained: it never slows the process down.
 *
 * Everything is sent from one place, `advance`, in the order of the events' numbers, and only while the client reads. What
 * is kept for a client that does not is bounded: a place, a few events, and what is retained anyway.
 *
 * @since 0.1.0
 */
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { Viewer } from "../protocol/WatchApi.js"
import type { AttachmentEvent } from "../protocol/WatchNotifications.js"
import type { Snapshot } from "../screen/Screens.js"
import { OutputWindow } from "./OutputWindow.js"
import type { Params, Sink } from "./Sink.js"

/** Why an attachment ends. */
export type EndReason = Params<"attachment/ended">["reason"]

/** An event without the id of an attachment. */
type Event = AttachmentEvent extends infer E ? (E extends unknown ? Omit<E, "attachmentId"> : never) : never

/** The most restarts that wait to be sent; earlier ones are dropped. */
const maxRestarts = 64

/** How much output is taken at a time, in bytes. */
const batchBytes = 65536

/** How many chunks are taken at a time: small ones fill the connection before they are this many bytes. */
const batchChunks = 256

/** What the viewers of one process share. */
export interface Group {
  readonly process: ManagedProcess
  readonly viewers: () => ReadonlyArray<Viewer>
  /** Runs an effect that makes the screen. It is not sent if it cannot be made. */
  readonly showTo: (attachment: Attachment) => void
  readonly leave: (attachment: Attachment) => void
}

/** The connection of an attachment. */
export interface Place {
  readonly sink: Sink
  readonly remove: (attachment: Attachment) => void
}

/** How an attachment is described to the others. */
export interface Description {
  readonly id: number
  readonly name: string
  readonly role: Viewer["role"]
  readonly size: TerminalSize | undefined
  readonly window: number
}

/** One attachment. */
export class Attachment {
  private readonly window: OutputWindow
  /** The last event whose output was sent. */
  private cursor = 0
  /** The number of bytes up to the cursor. */
  private position = 0
  private nextMark = 0
  private events: Array<Event> = []
  private started = false
  private scheduled = false
  private isAwaitingScreen = false
  private viewersChanged = false
  private ended = false
  /** The size of its client's window, if that is known. */
  size: TerminalSize | undefined

  constructor(
    private readonly description: Description,
    private readonly group: Group,
    private readonly place: Place
  ) {
    this.window = new OutputWindow(description.window)
    this.size = description.size
  }

  get id(): number {
    return this.description.id
  }

  get process(): ManagedProcess {
    return this.group.process
  }

  get name(): string {
    return this.description.name
  }

  get role(): Viewer["role"] {
    return this.description.role
  }

  /** Begins after the event `seq` and so many resizes; by default, all that are not after it. */
  beginAt(seq: number, resizes?: number): void {
    const { process } = this.group
    this.cursor = seq
    this.position = this.positionOf(seq)
    this.nextMark = resizes ?? process.marks?.countThrough(seq) ?? 0
    const { exited, closed, exitCode, signal } = process.status()
    const knows = (type: Event["type"]) => this.events.some((event) => event.type === type)
    if (exited && !knows("exited")) this.events.push({ seq: process.exitedAt, type: "exited", exitCode, signal })
    if (closed && !knows("closed")) this.events.push({ seq: process.lastSeq, type: "closed" })
  }

  /** The client has shown everything up to `seq`; the first time, it is ready to be sent something. */
  acknowledge(seq: number): void {
    this.started = true
    this.window.acknowledge(seq)
    this.wake()
  }

  /** Sends what there is, later in this turn of the event loop. */
  wake(): void {
    if (this.scheduled || !this.canSend()) return
    this.scheduled = true
    setImmediate(() => {
      this.scheduled = false
      this.advance()
    })
  }

  /** An event of the process. */
  onEvent(event: Event): void {
    this.events.push(event)
    const restarts = this.events.filter(({ type }) => type === "restarted")
    if (restarts.length > maxRestarts) this.events = this.events.filter((other) => other !== restarts[0])
    this.wake()
  }

  /** Who watches has changed. */
  onViewers(): void {
    this.viewersChanged = true
    this.wake()
  }

  /** The screen for which it skipped output is made, or there can be none. */
  onScreen(snapshot: Snapshot | undefined): void {
    this.isAwaitingScreen = false
    if (this.ended) return
    // One that others had asked for before may be older than what was sent: it asks again.
    if (snapshot === undefined || snapshot.seq >= this.cursor) this.skipTo(snapshot)
    this.advance()
  }

  /** Sends the rest as far as the client reads, and ends it. */
  end(reason: EndReason): void {
    if (this.ended) return
    this.isAwaitingScreen = false
    if (this.started) this.advance()
    this.stop()
    this.place.sink.notify("attachment/ended", { attachmentId: this.id, reason })
  }

  /** Ends it without a word: its connection has ended. */
  stop(): void {
    if (this.ended) return
    this.ended = true
    this.place.remove(this)
    this.group.leave(this)
  }

  private canSend(): boolean {
    return this.started && !this.ended && !this.isAwaitingScreen && !this.place.sink.isCongested()
  }

  private advance(): void {
    if (!this.canSend()) return
    if (this.viewersChanged) {
      this.viewersChanged = false
      const params = { attachmentId: this.id, viewers: this.group.viewers() }
      this.place.sink.notify("attachment/viewers", params)
    }
    while (this.sendOutput()) {
      // Until there is no more, the window is full, or the client does not read.
    }
  }

  /** Sends the next piece of output. Returns whether there may be more to send now. */
  private sendOutput(): boolean {
    if (this.window.isFull || !this.canSend()) return false
    const { retained, lastSeq } = this.group.process
    const gap = retained.gap()
    const isLost = gap !== undefined && this.cursor < gap.throughSeq
    if (isLost && this.cursor >= gap.fromSeq - 1) return this.skip()
    const { chunks } = retained.select(this.cursor, batchBytes, batchChunks)
    const reached = isLost ? chunks.filter(({ seq }) => seq < gap.fromSeq) : chunks
    for (const { seq, stream, chunk } of reached) {
      if (this.window.isFull || !this.canSend()) return false
      this.sendUpTo(seq)
      this.place.sink.output(this.id, seq, stream, chunk)
      this.cursor = seq
      this.position += chunk.length
      this.window.add(seq, chunk.length)
    }
    if (reached.length > 0) return true
    if (isLost) {
      this.cursor = gap.fromSeq - 1
      return true
    }
    this.sendUpTo(lastSeq + 1)
    return false
  }

  /** Sends the events and the resizes before the output with this number, and no more than so many resizes. */
  private sendUpTo(seq: number, resizes = Number.POSITIVE_INFINITY): void {
    const { marks } = this.group.process
    for (;;) {
      const event = this.events[0]
      if (marks !== undefined) this.nextMark = Math.max(this.nextMark, marks.oldest)
      const mark = this.nextMark < resizes ? marks?.at(this.nextMark) : undefined
      if (mark !== undefined && mark.seq < seq && (event === undefined || mark.seq < event.seq)) {
        this.nextMark++
        this.place.sink.notify("attachment/resized", { attachmentId: this.id, ...mark })
      } else if (event !== undefined && event.seq < seq) {
        this.events.shift()
        this.place.sink.notify("attachment/event", { attachmentId: this.id, ...event })
      } else return
    }
  }

  /** Output is lost. Returns whether there may be more to send now. */
  private skip(): boolean {
    if (this.group.process.marks !== undefined) {
      this.isAwaitingScreen = true
      this.group.showTo(this)
      return false
    }
    this.skipTo(undefined)
    return true
  }

  /** Goes on with a screen, or with what is retained. */
  private skipTo(snapshot: Snapshot | undefined): void {
    const { process } = this.group
    const { retained, marks } = process
    const shown = Math.max(this.cursor, snapshot?.seq ?? retained.gap()?.throughSeq ?? this.cursor)
    // The events that no output follows come after the screen: nothing is expected after the end.
    const next = this.events.find((event) => !retained.hasAfter(event.seq))
    const seq = Math.max(this.cursor, Math.min(shown, (next?.seq ?? shown + 1) - 1))
    const position = this.positionOf(seq)
    const skippedBytes = Math.max(0, position - this.position)
    const screen = snapshot?.screen ?? null
    const resizes = snapshot?.resizes ?? marks?.countThrough(seq) ?? 0
    this.sendUpTo(seq + 1, resizes)
    this.nextMark = Math.max(this.nextMark, resizes)
    const size = snapshot?.size ?? marks?.sizeAfter(seq) ?? null
    const encoded = screen?.toString("base64") ?? null
    this.place.sink.notify("attachment/screen", { attachmentId: this.id, seq, size, screen: encoded, skippedBytes })
    this.window.add(seq, screen?.length ?? 0)
    this.cursor = seq
    this.position = position
  }

  /** The number of bytes up to an event, which is not within the gap. */
  private positionOf(seq: number): number {
    const { retained, totalBytes } = this.group.process
    const gap = retained.gap()
    const lost = gap !== undefined && seq < gap.fromSeq ? gap.bytes : 0
    return totalBytes - retained.bytesAfter(seq) - lost
  }
}
