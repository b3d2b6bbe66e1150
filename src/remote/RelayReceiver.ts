/**
 * The receiving half of a relay stream: orders and deduplicates segments, and reassembles messages.
 *
 * Pure. Received messages are held until they are consumed, and their bytes are counted.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { Segment } from "./RelayFrame.js"
import type { Limits } from "./RelayLimits.js"
import { advance, distance } from "./RelaySender.js"

/** The memory of a held segment besides its payload, in bytes. */
const segmentOverheadBytes = 128

/** The bytes that a stream may hold regardless of the other streams. */
const guaranteedBytes = 1048576

/** Bytes held by all streams of a socket. */
export interface Budget {
  used: number
}

/** The outcome of receiving a segment. */
export type Outcome =
  | { readonly _tag: "Taken" }
  /** A duplicate, or ahead of its turn. */
  | { readonly _tag: "OutOfTurn" }
  /** A protocol violation: the stream cannot continue. */
  | { readonly _tag: "Violation"; readonly reason: string }

const taken: Outcome = { _tag: "Taken" }
const outOfTurn: Outcome = { _tag: "OutOfTurn" }
const violation = (reason: string): Outcome => ({ _tag: "Violation", reason })

/** A complete message that was not consumed yet. */
interface Ready {
  readonly message: Uint8Array
  readonly firstSeq: number
}

const cost = (payload: Uint8Array) => payload.byteLength + segmentOverheadBytes

/** The receiving half. */
export class RelayReceiver {
  private expected = 0
  private readonly ahead = new Map<number, Segment>()
  private parts: Array<Uint8Array> = []
  private partsBytes = 0
  private partsCount = 0
  private readonly ready: Array<Ready> = []
  private held = 0
  /** Whether any segment was appended in order, and whether any message was consumed. */
  private appended = false
  private took = false

  constructor(
    private readonly limits: Limits,
    private readonly maxMessageBytes: number,
    private readonly budget: Budget
  ) {}

  /** The number of the next segment in order. */
  get nextSeq(): number {
    return this.expected
  }

  /** Whether segments wait for an earlier one. */
  get hasGap(): boolean {
    return this.ahead.size > 0
  }

  /** Sets the number of the first segment, before any was received. */
  startAt(seq: number): void {
    this.expected = seq
  }

  /**
   * Receives a segment of a peer that does not number for anybody: a whole message is next, whatever its number, and
   * pieces that do not fit together are dropped. Returns whether it has completed a message of several segments.
   */
  acceptAsItComes(segment: Segment): Outcome | "joined" {
    const { seq, index, count } = segment
    if (count > this.limits.maxSegments) return taken
    const start = advance(seq, -index)
    if (count === 1 || start !== this.pieceStart || (this.parts.length > 0 && count !== this.partsCount)) {
      this.restart(start)
    }
    const before = this.ready.length
    const outcome = this.accept(segment)
    return count > 1 && this.ready.length > before ? "joined" : outcome
  }

  /** The last segment to acknowledge. Segments of unconsumed messages are not acknowledged. */
  get ack(): number {
    const first = this.ready[0]
    return advance(first === undefined ? this.expected : first.firstSeq, -1)
  }

  /** Whether `ack` is valid. Before the first segment it is not. */
  get hasTaken(): boolean {
    return this.took || (this.appended && this.ready.length === 0)
  }

  /** A bit mask: which of the 32 segments after `ack` were received. */
  get ackBits(): number {
    if (this.ahead.size === 0 || this.ready.length > 0 || !this.hasTaken) return 0
    let bits = 0
    for (let bit = 0; bit < 32; bit++) if (this.ahead.has(advance(this.expected, bit))) bits |= 1 << bit
    return bits >>> 0
  }

  accept(segment: Segment): Outcome {
    const { maxSegments, windowFrames } = this.limits
    const { seq, count, payload } = segment
    if (count > maxSegments) return violation(`a message of ${count} segments is longer than ${maxSegments}`)
    const turn = distance(this.expected, seq)
    if (turn < 0 || turn >= 2 * windowFrames || this.ahead.has(seq)) return outOfTurn
    if (this.budget.used + cost(payload) > this.limits.maxHeldBytes && this.held + cost(payload) > guaranteedBytes) {
      return violation("too much was sent that could not be taken yet")
    }
    if (turn > 0) {
      this.hold(cost(payload))
      this.ahead.set(seq, segment)
      return outOfTurn
    }
    let next: Segment | undefined = segment
    while (next !== undefined) {
      const fault = this.append(next)
      if (fault !== undefined) return violation(fault)
      next = this.ahead.get(this.expected)
      if (next === undefined) break
      this.ahead.delete(this.expected)
      this.hold(-cost(next.payload))
    }
    return taken
  }

  /** Consumes the next complete message. */
  take(): Uint8Array | undefined {
    const first = this.ready.shift()
    if (first === undefined) return undefined
    this.took = true
    this.hold(-cost(first.message))
    return first.message
  }

  /** Releases the held messages. */
  release(): void {
    this.ahead.clear()
    this.parts = []
    this.ready.length = 0
    this.hold(-this.held)
  }

  /** The number of the first piece of the message that is being collected, or of the next one. */
  private get pieceStart(): number {
    return advance(this.expected, -this.parts.length)
  }

  /** Drops the pieces of an incomplete message; the next segment has this number. */
  private restart(seq: number): void {
    this.hold(-this.held + this.ready.reduce((sum, { message }) => sum + cost(message), 0))
    this.ahead.clear()
    this.parts = []
    this.partsBytes = 0
    this.expected = seq
  }

  private append({ seq, index, count, payload }: Segment): string | undefined {
    if (index !== this.parts.length || (index > 0 && count !== this.partsCount)) {
      return `segment ${index} of ${count} came where segment ${this.parts.length} of a message was due`
    }
    if (this.partsBytes + payload.byteLength > this.maxMessageBytes) {
      return `a message is longer than maxMessageBytes (${this.maxMessageBytes})`
    }
    this.expected = advance(seq, 1)
    this.appended = true
    this.parts.push(payload)
    this.partsBytes += payload.byteLength
    this.partsCount = count
    this.hold(cost(payload))
    if (index + 1 === count) this.complete(seq)
    return undefined
  }

  private complete(lastSeq: number): void {
    const [only] = this.parts
    const message = this.parts.length === 1 && only !== undefined ? only : Buffer.concat(this.parts)
    this.ready.push({ message, firstSeq: advance(lastSeq, 1 - this.parts.length) })
    this.hold(cost(message) - this.partsBytes - this.parts.length * segmentOverheadBytes)
    this.parts = []
    this.partsBytes = 0
  }

  private hold(bytes: number): void {
    this.held += bytes
    this.budget.used += bytes
  }
}
