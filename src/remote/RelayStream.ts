/**
 * One virtual connection over relay frames: delivers messages once and in order, even if frames are lost, duplicated or
 * reordered.
 *
 * No I/O: the caller passes the time, gives frames to `receive` and asks for them with `next`. A peer may not support
 * acknowledgements, retransmission and segments; its frames show whether it does.
 *
 * @since 0.1.0
 */
import { type Body, type Frame, fitReason, type Message, type Received, type Segment } from "./RelayFrame.js"
import type { Limits } from "./RelayLimits.js"
import { type Budget, type Outcome, RelayReceiver } from "./RelayReceiver.js"
import { RelaySender } from "./RelaySender.js"

/** The delay of an acknowledgement that may be carried by another frame, in milliseconds. */
const ackDelayMs = 25

/** The segments and bytes after which an acknowledgement is sent at once. */
const ackEvery = { segments: 16, bytes: 1048576 } as const

/** The heartbeat interval of a reliable stream, in milliseconds: its peer treats silence as the end. */
const heartbeatMs = 20000

/** How long a peer that sends heartbeats may be silent, in milliseconds. */
const silenceMs = 90000

/** How long to wait for a missing segment of a peer that splits messages but does not retransmit, in milliseconds. */
const gapMs = 3000

/** A time that never comes. */
const forever = Number.POSITIVE_INFINITY

/** How often a segment is sent to a peer without heartbeats. The last attempts are 16 seconds apart. */
const maxAttempts = 12

/** How long messages sent before a `close` may take to leave, in milliseconds. */
const closeMs = 1000

/**
 * What is known of the peer. `Unknown`: it has not sent anything yet. `Plain`: it sends without acknowledgements, and is
 * served in order of arrival: the original does not look at the numbers. `Reliable`: it acknowledges, retransmits and
 * reassembles.
 */
export type PeerKind = "Unknown" | "Plain" | "Reliable"

/** How a stream ended. */
export interface StreamEnd {
  readonly reason: string
  /** Whether the peer ended it. If not, the peer is told. */
  readonly byPeer: boolean
}

/** Options of a stream. */
export interface Options {
  readonly limits: Limits
  readonly maxMessageBytes: number
  readonly budget: Budget
  /**
   * Whether this side opens the stream. The opener does not know the peer's abilities at first; the other side does.
   */
  readonly initiator: boolean
  /** The peer's first segment, if not 0: it may continue the numbers of an earlier stream. */
  readonly startsAt?: number
}

/** One virtual connection. */
export class RelayStream {
  private readonly sender: RelaySender
  private readonly receiver: RelayReceiver
  private readonly starts = new Set([0])
  private started = false
  private kind: PeerKind
  /** Whether the peer has declared itself reliable; such peers send heartbeats. */
  private vows = false
  private wantsAcks = false
  /** A plain peer has sent a message in several segments: its numbers count. */
  private splits = false
  private ackAt: number | undefined
  private readonly sinceAck = { segments: 0, bytes: 0 }
  private gapAt: number | undefined
  private resumeDue: boolean
  private heardAt: number
  private listens = true
  private sentAt: number
  private closing: { readonly reason: string; readonly by: number } | undefined
  private reset: string | undefined
  private end: StreamEnd | undefined

  constructor(
    private readonly options: Options,
    now: number
  ) {
    this.sender = new RelaySender(options.limits)
    this.receiver = new RelayReceiver(options.limits, options.maxMessageBytes, options.budget)
    this.kind = options.initiator ? "Unknown" : "Plain"
    if (!options.initiator) this.sender.forget()
    this.resumeDue = options.initiator
    this.heardAt = now
    this.sentAt = now
    if (options.startsAt !== undefined) this.starts.add(options.startsAt)
  }

  /** How the stream ended, if it has. A reset for the peer may still have to be sent. */
  get ended(): StreamEnd | undefined {
    return this.end
  }

  /** The bytes of queued messages. */
  get queuedBytes(): number {
    return this.sender.queuedBytes
  }

  /** The number of the peer's next segment. */
  get nextSeq(): number {
    return this.receiver.nextSeq
  }

  /** Whether the peer is reliable. */
  get isReliable(): boolean {
    return this.kind === "Reliable"
  }

  /** The time of the next timer: `next` may return a frame then. */
  get deadline(): number | undefined {
    if (this.end !== undefined) return undefined
    const earliest = Math.min(
      this.sender.deadline ?? forever,
      this.ackAt ?? forever,
      this.vows ? this.sentAt + heartbeatMs : forever,
      this.endsAt
    )
    return earliest === forever ? undefined : earliest
  }

  /** When a timeout ends the stream; `expire` does it where no frame can be sent. */
  get endsAt(): number {
    return Math.min(
      this.gapAt ?? forever,
      this.closing?.by ?? forever,
      this.vows && this.listens ? this.heardAt + silenceMs : forever
    )
  }

  /** Ends the stream if a timeout has passed. */
  expire(now: number): void {
    if (this.end === undefined) this.isOver(now)
  }

  send(message: Message): void {
    if (this.end === undefined && this.closing === undefined) this.sender.enqueue(message)
  }

  /** Ends the stream once everything was sent. Nothing is received any more. */
  close(reason: string, now: number): void {
    this.closing ??= { reason, by: now + closeMs }
    this.receiver.release()
  }

  /**
   * Makes the next frame ask the peer for an answer. False if the peer cannot be asked: it makes no vows, or its frames
   * are not read.
   */
  ask(): boolean {
    if (this.end !== undefined || !this.vows || !this.listens) return false
    this.resumeDue = true
    return true
  }

  /** When the last frame of the peer arrived. */
  get lastHeardAt(): number {
    return this.heardAt
  }

  /** Sets whether the peer is being read. Its silence counts only while it is. */
  listen(listens: boolean, now: number): void {
    this.listens = listens
    this.heardAt = now
  }

  /** Releases everything held: the socket is gone, or the stream has ended. */
  abandon(end: StreamEnd): void {
    if (this.end === undefined) this.finish(end)
  }

  /** Processes a received frame. Messages may be ready afterwards, and frames to send. */
  receive(frame: Frame, now: number): void {
    if (this.end !== undefined) return
    this.heardAt = now
    const { body } = frame
    if (body._tag === "Reset") this.finish({ reason: body.reason, byPeer: true })
    else if (!this.learn(frame, now)) this.violate("the other side continues a stream that is not known here")
    else if (body._tag === "Resume") this.onResume(body.nextSeq, frame.reliable, now)
    else if (body._tag === "Data" && this.closing === undefined) this.onSegment(body, now)
  }

  /** The next message received. */
  take(now: number): Uint8Array | undefined {
    const message = this.receiver.take()
    if (message !== undefined && this.wantsAcks) this.ackAt ??= now + ackDelayMs
    return message
  }

  /** The next frame to send, if any. */
  next(now: number): (Received & { readonly body: Body }) | undefined {
    const body = this.nextBody(now)
    if (body === undefined) return undefined
    this.sentAt = now
    this.ackAt = undefined
    this.sinceAck.segments = 0
    this.sinceAck.bytes = 0
    // The opener declares its abilities. The other side looks plain to a plain peer.
    const reliable = this.options.initiator || this.vows
    const { ack, ackBits } = this.receiver
    return this.receiver.hasTaken
      ? { body, ack, ackBits, reliable, acknowledged: reliable }
      : { body, ack: 0, ackBits: 0, reliable, acknowledged: false }
  }

  private nextBody(now: number): Body | undefined {
    if (this.reset !== undefined) {
      const reason = this.reset
      this.reset = undefined
      return { _tag: "Reset", reason: fitReason(reason) }
    }
    if (this.end !== undefined) return undefined
    if (this.isOver(now)) return this.nextBody(now)
    if (this.resumeDue) {
      this.resumeDue = false
      return { _tag: "Resume", nextSeq: this.sender.firstSeq }
    }
    if (this.sender.expire(now) && this.kind === "Unknown") {
      // Retransmitting a message could execute it twice. A resume is harmless, and a reliable peer answers it.
      return { _tag: "Resume", nextSeq: this.sender.firstSeq }
    }
    const { maxWholeBytes } = this.options.limits
    const { nextBytes } = this.sender
    if (this.kind !== "Reliable" && nextBytes > maxWholeBytes) {
      this.violate(
        `a message of ${nextBytes} bytes is longer than this side can be sent in one piece (${maxWholeBytes})`
      )
      return this.nextBody(now)
    }
    const segment = this.sender.next(now)
    if (segment !== undefined) return segment
    if (this.closing !== undefined && this.sender.isEmpty) {
      this.violate(this.closing.reason)
      return this.nextBody(now)
    }
    if (this.ackAt !== undefined && now >= this.ackAt) {
      return this.receiver.hasTaken ? { _tag: "Ack" } : { _tag: "Heartbeat" }
    }
    return this.vows && now >= this.sentAt + heartbeatMs ? { _tag: "Heartbeat" } : undefined
  }

  /** Whether a timeout has ended the stream. */
  private isOver(now: number): boolean {
    if (this.closing !== undefined && now >= this.closing.by) this.violate(this.closing.reason)
    else if (this.vows && this.listens && now >= this.heardAt + silenceMs)
      this.violate("nothing was heard for too long")
    else if (this.gapAt !== undefined && now >= this.gapAt) {
      this.violate(`segment ${this.receiver.nextSeq} is missing`)
    } else if (this.kind === "Reliable" && !this.vows && this.sender.attempts > maxAttempts) {
      this.violate(`segment ${this.sender.firstSeq} was not acknowledged`)
    }
    return this.end !== undefined
  }

  /** Processes the fields of every frame. False if it acknowledges segments that were never sent. */
  private learn({ ack, ackBits, reliable, acknowledged, body }: Frame, now: number): boolean {
    if (reliable && !this.vows) {
      this.vows = true
      this.wantsAcks = true
      this.becomeReliable()
    }
    const tells = reliable ? acknowledged : ack !== 0 || ackBits !== 0 || body._tag === "Ack"
    if (tells) {
      if (!this.sender.hasSent(ack)) return !reliable
      this.wantsAcks = true
      this.becomeReliable()
      this.sender.acknowledge(ack, ackBits, now)
    } else if (this.kind === "Unknown" && body._tag === "Data") {
      this.kind = "Plain"
      this.sender.forget()
    }
    return true
  }

  private becomeReliable(): void {
    if (this.kind === "Reliable") return
    this.kind = "Reliable"
    this.gapAt = undefined
    this.sender.trust()
  }

  private onResume(nextSeq: number, answer: boolean, now: number): void {
    if (!this.started) this.starts.add(nextSeq)
    if (answer) this.ackAt = now
  }

  private onSegment(segment: Segment, now: number): void {
    const outcome = this.kind === "Reliable" || this.splits ? this.inOrder(segment) : this.asItComes(segment)
    if (outcome._tag === "Violation") {
      this.violate(outcome.reason)
      return
    }
    if (outcome._tag === "Taken") {
      this.sinceAck.segments++
      this.sinceAck.bytes += segment.payload.byteLength
      if (segment.count > 1) this.wantsAcks = true
    } else {
      // The peer retransmits, or its segments arrive out of order: it waits for acknowledgements.
      this.wantsAcks = true
      this.ackAt = now
    }
    if (this.splits && this.kind !== "Reliable")
      this.gapAt = this.receiver.hasGap ? (this.gapAt ?? now + gapMs) : undefined
    if (!this.wantsAcks) return
    const { segments, bytes } = this.sinceAck
    if (segments >= ackEvery.segments || bytes >= ackEvery.bytes) this.ackAt = now
    else this.ackAt ??= now + ackDelayMs
  }

  private asItComes(segment: Segment): Outcome {
    // Should it acknowledge later on, it continues from here.
    this.started = true
    const outcome = this.receiver.acceptAsItComes(segment)
    if (outcome !== "joined") return outcome
    this.splits = true
    return { _tag: "Taken" }
  }

  private inOrder(segment: Segment): Outcome {
    if (!this.started) {
      const start = (segment.seq - segment.index) >>> 0
      if (this.starts.has(start)) {
        this.started = true
        this.receiver.startAt(start)
      }
    }
    return this.receiver.accept(segment)
  }

  /** Ends the stream and tells the peer. */
  private violate(reason: string): void {
    if (this.end !== undefined) return
    this.reset = reason
    this.finish({ reason, byPeer: false })
  }

  private finish(end: StreamEnd): void {
    this.end = end
    this.receiver.release()
    this.sender.release()
  }
}
