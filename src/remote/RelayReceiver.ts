/**
 * The receiving half of a relay stream: puts segments in order, each once, and messages together.
 *
 * Pure. Messages that were received and not taken yet are held, and their bytes are counted.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { Segment } from "./RelayFrame.js"
import type { Limits } from "./RelayLimits.js"
import { advance, distance } from "./RelaySender.js"

/** What holding a segment costs beside its payload, in bytes. */
const segmentOverheadBytes = 128

/** Bytes that a stream may always hold, however much the other streams hold. */
const guaranteedBytes = 1048576

/** Bytes held by all streams of a socket. */
export interface Budget {
  used: number
}

/** The outcome of receiving a segment. */
export type Outcome =
  | { readonly _tag: "Taken" }
  /** Came a second time, or ahead of its turn. */
  | { readonly _tag: "OutOfTurn" }
  /** No peer that keeps the rules sends this: the stream cannot go on. */
  | { readonly _tag: "Violation"; readonly reason: string }

const taken: Outcome = { _tag: "Taken" }
const outOfTurn: Outcome = { _tag: "OutOfTurn" }
const violation = (reason: string): Outcome => ({ _tag: "Violation", reason })

/** A whole message that nobody has taken yet. */
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
  /** Whether any segment came in its turn, and any message was taken. */
  private appended = false
  private took = false

  constructor(
    private readonly limits: Limits,
    private readonly maxMessageBytes: number,
    private readonly budget: Budget
  ) {}

  /** The segment that is next in turn. */
  get nextSeq(): number {
    return this.expected
  }

  /** Whether segments wait for one that comes before them. */
  get hasGap(): boolean {
    return this.ahead.size > 0
  }

  /** Makes a segment the first one; before any was received. */
  startAt(seq: number): void {
    this.expected = seq
  }

  /** The last segment of which the peer may know that it was taken: those of messages nobody has taken hold it up. */
  get ack(): number {
    const first = this.ready[0]
    return advance(first === undefined ? this.expected : first.firstSeq, -1)
  }

  /** Whether `ack` stands for a segment; before the first one it does not. */
  get hasTaken(): boolean {
    return this.took || (this.appended && this.ready.length === 0)
  }

  /** Which of the 32 segments behind `ack` were received. */
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

  /** The next whole message. */
  take(): Uint8Array | undefined {
    const first = this.ready.shift()
    if (first === undefined) return undefined
    this.took = true
    this.hold(-cost(first.message))
    return first.message
  }

  /** Gives back what is held. */
  release(): void {
    this.ahead.clear()
    this.parts = []
    this.ready.length = 0
    this.hold(-this.held)
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
