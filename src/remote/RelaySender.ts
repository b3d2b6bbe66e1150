/**
 * The sending half of a relay stream: splits messages into segments, and keeps each until it is acknowledged.
 *
 * No I/O: the caller passes the time and asks for frames.
 *
 * @since 0.1.0
 */
import type { Data, Message } from "./RelayFrame.js"
import type { Limits } from "./RelayLimits.js"

/** The distance between two sequence numbers, with wraparound. */
export const distance = (from: number, to: number): number => (to - from) | 0

/** Sequence numbers are unsigned 32-bit integers. */
export const advance = (seq: number, by: number): number => (seq + by) >>> 0

/** The retransmission timeout in milliseconds: initial, minimum and maximum. */
const timeoutMs = { first: 1000, least: 500, most: 16000 } as const

/** A segment counts as lost when one this far after it was acknowledged. A smaller distance may be reordering. */
const overtakenBy = 3

/** Segments retransmitted after a timeout without any acknowledgement. Doubles with each acknowledgement after that. */
const firstBurst = 8

/** A segment in flight. The same object is the frame that is sent, to save an allocation. */
interface Flight extends Data {
  sentAt: number
  attempts: number
}

/** The sending half. */
export class RelaySender {
  private readonly queue: Array<Message> = []
  private queued = 0
  /** The next segment of the first queued message, and the number of its segments. */
  private index = 0
  private count = 0
  private nextSeq = 0
  /** The number of segments sent so far. */
  private sent = 0
  private readonly flights = new Map<number, Flight>()
  private flightBytes = 0
  private lost: Array<number> = []
  private smoothedMs: number | undefined
  private variationMs = 0
  private backOff = 1
  private timeoutAt: number | undefined
  /** While recovering: segments sent before this time are retransmitted as acknowledgements arrive. */
  private recoveringSince: number | undefined
  private burst = firstBurst
  /** Whether segments are kept for retransmission; not for a peer that does not acknowledge. */
  private keeps = true
  /** Whether the peer reassembles and deduplicates segments. Messages to it are split and retransmitted. */
  private capable = false

  constructor(private readonly limits: Limits) {}

  /** The bytes of messages that were not sent yet. */
  get queuedBytes(): number {
    return this.queued
  }

  /** The time of the next retransmission. */
  get deadline(): number | undefined {
    return this.timeoutAt
  }

  /** The size of the message that is sent next, in bytes. */
  get nextBytes(): number {
    return this.queue[0]?.payload.byteLength ?? 0
  }

  /** Whether everything was sent at least once. */
  get isEmpty(): boolean {
    return this.queue.length === 0
  }

  /** Whether any segment is unacknowledged. */
  get isWaiting(): boolean {
    return this.flights.size > 0
  }

  /** The number of transmissions of the oldest unacknowledged segment. */
  get attempts(): number {
    for (const { attempts } of this.flights.values()) return attempts
    return 0
  }

  /** The first segment that the peer will be sent. */
  get firstSeq(): number {
    for (const seq of this.flights.keys()) return seq
    return this.nextSeq
  }

  enqueue(message: Message): void {
    this.queue.push(message)
    this.queued += message.payload.byteLength
  }

  /** Stops keeping segments, and lifts the window. */
  forget(): void {
    this.keeps = false
    for (const { room } of this.flights.values()) room?.release()
    this.flights.clear()
    this.flightBytes = 0
    this.lost = []
    this.timeoutAt = undefined
  }

  /** Splits messages from now on, and retransmits every segment until it is acknowledged. */
  trust(): void {
    this.keeps = true
    this.capable = true
  }

  /** Discards the queue. Nothing more is sent. */
  release(): void {
    this.forget()
    this.queue.length = 0
    this.queued = 0
  }

  /** Whether a segment was ever sent. */
  hasSent(seq: number): boolean {
    const behind = distance(seq, this.nextSeq)
    return behind > 0 && behind <= this.sent
  }

  acknowledge(ack: number, ackBits: number, now: number): void {
    let progress = false
    // Ordered by number: the first one after `ack` ends the loop.
    for (const [seq, flight] of this.flights) {
      if (distance(seq, ack) < 0) break
      this.land(flight, now)
      progress = true
    }
    let furthest = -1
    for (let bit = 0; bit < 32; bit++) {
      if ((ackBits & (1 << bit)) === 0) continue
      const seq = advance(ack, 1 + bit)
      furthest = bit
      const flight = this.flights.get(seq)
      if (flight === undefined) continue
      this.land(flight, now)
      progress = true
    }
    for (let bit = 0; bit <= furthest - overtakenBy; bit++) {
      const flight = this.flights.get(advance(ack, 1 + bit))
      if (flight?.attempts === 1) this.sendAgain(flight)
    }
    if (progress) this.progressed(now)
  }

  /** The next segment to send or retransmit, if any. */
  next(now: number): Data | undefined {
    while (this.capable && this.lost.length > 0) {
      const flight = this.flights.get(this.lost.shift() ?? 0)
      if (flight === undefined) continue
      flight.sentAt = now
      this.arm(now)
      // The room is used only once: the bytes written there may still be in transit.
      const { _tag, seq, index, count, payload } = flight
      return { _tag, seq, index, count, payload }
    }
    return this.fresh(now)
  }

  /** Handles the deadline; returns whether it had passed. */
  expire(now: number): boolean {
    if (this.timeoutAt === undefined || now < this.timeoutAt) return false
    this.backOff = Math.min(this.backOff * 2, timeoutMs.most)
    this.recoveringSince = now
    this.burst = firstBurst
    this.resend(now)
    this.arm(now)
    return true
  }

  private fresh(now: number): Data | undefined {
    const [message] = this.queue
    if (message === undefined) return undefined
    const whole = message.payload
    const { segmentBytes, windowFrames, windowBytes } = this.limits
    if (this.index === 0) this.count = this.capable ? Math.max(1, Math.ceil(whole.byteLength / segmentBytes)) : 1
    const { index, count } = this
    const payload = count === 1 ? whole : whole.subarray(index * segmentBytes, (index + 1) * segmentBytes)
    const size = payload.byteLength
    if (this.flights.size > 0 && (this.flights.size >= windowFrames || this.flightBytes + size > windowBytes)) {
      return undefined
    }
    this.queued -= size
    if (index + 1 < count) this.index++
    else {
      this.index = 0
      this.queue.shift()
    }
    const seq = this.nextSeq
    const room = count === 1 ? message.room : undefined
    const flight: Flight = { _tag: "Data", seq, index, count, payload, room, sentAt: now, attempts: 1 }
    this.nextSeq = advance(seq, 1)
    this.sent++
    if (this.keeps) {
      room?.hold()
      this.flights.set(seq, flight)
      this.flightBytes += size
      this.timeoutAt ??= now + this.timeout()
    }
    return flight
  }

  private land({ seq, payload, room, sentAt, attempts }: Flight, now: number): void {
    this.flights.delete(seq)
    room?.release()
    this.flightBytes -= payload.byteLength
    // Karn's rule: the acknowledgement of a retransmitted segment is ambiguous and gives no measurement.
    if (attempts === 1) this.measure(now - sentAt)
  }

  /** The estimate of RFC 6298. */
  private measure(ms: number): void {
    if (this.smoothedMs === undefined) {
      this.smoothedMs = ms
      this.variationMs = ms / 2
    } else {
      this.variationMs += (Math.abs(this.smoothedMs - ms) - this.variationMs) / 4
      this.smoothedMs += (ms - this.smoothedMs) / 8
    }
  }

  private timeout(): number {
    const { first, least, most } = timeoutMs
    const measured = this.smoothedMs === undefined ? first : this.smoothedMs + 4 * this.variationMs
    return Math.min(Math.max(measured, least) * this.backOff, most)
  }

  private progressed(now: number): void {
    this.backOff = 1
    if (this.recoveringSince !== undefined) {
      this.burst *= 2
      if (!this.resend(this.recoveringSince)) this.recoveringSince = undefined
    }
    this.arm(now)
  }

  /** Retransmits the oldest segments that were sent before a time; returns whether there were any. */
  private resend(before: number): boolean {
    let left = this.burst
    for (const flight of this.flights.values()) {
      if (left === 0) break
      if (flight.sentAt >= before) continue
      this.sendAgain(flight)
      left--
    }
    return left < this.burst
  }

  private sendAgain(flight: Flight): void {
    if (this.lost.includes(flight.seq)) return
    flight.attempts++
    this.lost.push(flight.seq)
  }

  private arm(now: number): void {
    this.timeoutAt = this.flights.size === 0 ? undefined : now + this.timeout()
  }
}
