/**
 * Drives relay streams over a socket: timers, scheduling and back-pressure. Streams that share a congested socket take
 * turns, and a slow peer of one stream does not delay the others.
 *
 * @since 0.1.0
 */
import * as RelayFrame from "./RelayFrame.js"
import { highWaterBytes, type RelaySocket } from "./RelaySocket.js"
import type { RelayStream, StreamEnd } from "./RelayStream.js"

/** The frames that a stream sends in one turn. */
const turnFrames = 4

/** Above this many unsent bytes, nothing is written to a socket, not even the reset of a stream. */
const fullBytes = 16 * highWaterBytes

/** The most resets that wait for a full socket. A stream whose reset is dropped ends at its next frame. */
const maxOwedResets = 4096

/** The callbacks of a driven stream. */
export interface DriverEvents {
  readonly onMessage: (message: Uint8Array) => void
  /** Everything sent has left this process, after some of it had to wait. */
  readonly onDrain: () => void
  /** The stream has ended. Called once, as the last callback. */
  readonly onEnd: (end: StreamEnd) => void
}

/** A stream that waits for its turn. */
export interface Waiting {
  /** Sends up to `frames` frames. */
  readonly pump: (frames: number) => void
}

/** The turns of the streams of one socket. */
export class Turns {
  private readonly waiting = new Set<Waiting>()
  /** Resets that are not written yet, by stream. */
  private readonly owed = new Map<string, Uint8Array>()

  constructor(readonly socket: RelaySocket) {}

  get isOpen(): boolean {
    return this.socket.buffered() <= highWaterBytes
  }

  /** Whether not even the reset of a stream is written. */
  get isFull(): boolean {
    return this.socket.buffered() >= fullBytes
  }

  /** Writes the reset of a stream, at once or when the socket has drained. */
  reset(streamId: string, frame: Uint8Array): void {
    if (!this.isFull) this.socket.send(frame)
    else if (this.owed.size < maxOwedResets) this.owed.set(streamId, frame)
  }

  /** A new stream has this id: a reset of the one before would end it. */
  renew(streamId: string): void {
    this.owed.delete(streamId)
  }

  wait(driver: Waiting): void {
    this.waiting.add(driver)
  }

  leave(driver: Waiting): void {
    this.waiting.delete(driver)
  }

  /** Call this when the socket has drained. */
  onDrain(): void {
    for (const [streamId, frame] of this.owed) {
      if (!this.isOpen) return
      this.owed.delete(streamId)
      this.socket.send(frame)
    }
    while (this.isOpen) {
      const [driver] = this.waiting
      if (driver === undefined) return
      this.waiting.delete(driver)
      driver.pump(turnFrames)
    }
  }
}

/** One stream over a socket. */
export class RelayDriver {
  private timer: NodeJS.Timeout | undefined
  private timerAt = Number.POSITIVE_INFINITY
  private paused = true
  private delivering = false
  private waited = false
  private over = false
  private readonly probes = new Set<(isAlive: boolean) => void>()

  constructor(
    private readonly streamId: string,
    private readonly stream: RelayStream,
    private readonly turns: Turns,
    private readonly events: DriverEvents
  ) {}

  /** The bytes of queued messages. */
  get queuedBytes(): number {
    return this.stream.queuedBytes
  }

  /** The number of the peer's next segment. */
  get nextSeq(): number {
    return this.stream.nextSeq
  }

  receive(frame: RelayFrame.Frame): void {
    this.stream.receive(frame, performance.now())
    this.answerProbes(this.stream.ended === undefined)
    this.deliver()
    this.pump()
  }

  send(message: RelayFrame.Message): void {
    this.stream.send(message)
    this.pump()
  }

  /** Stops reporting messages. The stream slows its peer down. */
  pause(): void {
    this.paused = true
  }

  /** Reports messages again. */
  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.deliver()
    this.pump()
  }

  /**
   * Reports within `withinMs` milliseconds whether the peer is alive. A peer heard from within that time counts as
   * alive, and so does one that cannot be asked.
   */
  probe(withinMs: number, onAnswer: (isAlive: boolean) => void): void {
    const isHeard = performance.now() - this.stream.lastHeardAt < withinMs
    if (this.over || isHeard || !this.turns.isOpen || !this.stream.ask()) {
      onAnswer(!this.over)
      return
    }
    const answer = (isAlive: boolean) => {
      clearTimeout(timer)
      if (this.probes.delete(answer)) onAnswer(isAlive)
    }
    const timer = setTimeout(answer, withinMs, false)
    this.probes.add(answer)
    this.pump()
  }

  /** Whether the socket is read; while it is not, the peer's timeout is suspended. */
  listen(listens: boolean): void {
    this.stream.listen(listens, performance.now())
  }

  /** Ends the stream once everything was sent, or after a short time. */
  close(reason: string): void {
    this.stream.close(reason, performance.now())
    this.pump()
  }

  /** Ends the stream because its socket is gone. */
  stop(reason: string): void {
    this.finish({ reason, byPeer: true })
  }

  /** Sends up to `frames` frames; the rest waits for the stream's turn. */
  pump(frames = Number.POSITIVE_INFINITY): void {
    if (this.over) return
    const now = performance.now()
    let waits = false
    for (let left = frames; this.stream.ended === undefined; left--) {
      if (left === 0 || !this.turns.isOpen) {
        waits = true
        this.waited = true
        this.turns.wait(this)
        // A socket that does not drain keeps no stream from its end.
        this.stream.expire(now)
        break
      }
      if (!this.emit(now)) break
    }
    const { ended } = this.stream
    if (ended !== undefined) {
      const frame = this.stream.next(now)
      if (frame !== undefined) this.turns.reset(this.streamId, RelayFrame.encode({ streamId: this.streamId, ...frame }))
      this.finish(ended)
      return
    }
    // What else is due is sent at its turn.
    this.arm(now, waits ? this.stream.endsAt : this.stream.deadline)
    if (this.waited && this.stream.queuedBytes === 0) {
      this.waited = false
      this.events.onDrain()
    } else if (this.stream.queuedBytes > 0) this.waited = true
  }

  private emit(now: number): boolean {
    const frame = this.stream.next(now)
    if (frame === undefined) return false
    const { body, ack, ackBits, reliable, acknowledged } = frame
    const room = body._tag === "Data" ? body.room : undefined
    room?.hold()
    const { streamId } = this
    const bytes = RelayFrame.encode({ streamId, body, ack, ackBits, reliable, acknowledged })
    this.turns.socket.send(bytes, room === undefined ? undefined : () => room.release())
    return true
  }

  private deliver(): void {
    // Delivering a message may call `resume` and this function again.
    if (this.delivering) return
    this.delivering = true
    while (!this.paused && !this.over) {
      const message = this.stream.take(performance.now())
      if (message === undefined) break
      this.events.onMessage(message)
    }
    this.delivering = false
  }

  private arm(now: number, deadline = Number.POSITIVE_INFINITY): void {
    if (deadline >= this.timerAt) return
    clearTimeout(this.timer)
    this.timerAt = deadline
    this.timer = setTimeout(() => {
      this.timerAt = Number.POSITIVE_INFINITY
      this.pump()
    }, deadline - now)
  }

  private answerProbes(isAlive: boolean): void {
    for (const answer of Array.from(this.probes)) answer(isAlive)
  }

  private finish(end: StreamEnd): void {
    if (this.over) return
    this.over = true
    this.answerProbes(false)
    clearTimeout(this.timer)
    this.turns.leave(this)
    this.stream.abandon(end)
    this.events.onEnd(end)
  }
}
