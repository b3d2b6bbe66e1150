/**
 * One encrypted virtual connection after its handshake: seals and opens records, takes turns with the other streams of
 * its socket, and ends at the first thing that is wrong.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import type { Turns } from "../RelayDriver.js"
import type { Keys } from "./Handshake.js"
import * as NoiseFrame from "./NoiseFrame.js"
import { type Fault, type Message, type ReaderOptions, RecordReader, RecordWriter } from "./Records.js"

/** The reason of a reset after anything that the protocol does not allow. */
export const protocolError = "noise_relay_protocol_error"

/** How long messages sent before a `close` may take to leave, in milliseconds. */
const closeMs = 1000

/** How a stream ended. */
export interface StreamEnd {
  /** The reason of its reset. */
  readonly reason: string
  readonly byPeer: boolean
  /** What was wrong with the peer's records, if anything was. */
  readonly fault?: Fault | undefined
}

/** The callbacks of a stream. */
export interface StreamEvents {
  readonly onMessage: (message: Buffer) => void
  /** Everything sent has left this process, after some of it had to wait. */
  readonly onDrain: () => void
  /** The stream has ended. Called once, as the last callback. */
  readonly onEnd: (end: StreamEnd) => void
}

/** One stream over a socket. Paused at first. */
export class NoiseStream {
  private readonly writer: RecordWriter
  private readonly reader: RecordReader
  private paused = true
  private delivering = false
  private waits = false
  private over = false
  private closing: string | undefined
  private timer: NodeJS.Timeout | undefined

  constructor(
    private readonly streamId: string,
    { send, receive }: Keys,
    options: ReaderOptions,
    private readonly turns: Turns,
    private readonly events: StreamEvents
  ) {
    this.writer = new RecordWriter(send)
    this.reader = new RecordReader(receive, options)
  }

  /** The bytes of queued messages. */
  get queuedBytes(): number {
    return this.writer.queuedBytes
  }

  receive(seq: number, sealed: Buffer): void {
    if (this.over || this.closing !== undefined) return
    const outcome = this.reader.receive(seq, sealed)
    this.deliver()
    if (Either.isLeft(outcome)) this.fail(outcome.left)
  }

  send(message: Message): void {
    if (this.over || this.closing !== undefined) {
      message.onSealed?.()
      return
    }
    this.writer.enqueue(message)
    // What waits for its turn goes first, and is sent then.
    if (!this.waits) this.pump(Number.POSITIVE_INFINITY)
  }

  /** Stops reporting messages. What arrives is kept, up to the limit. */
  pause(): void {
    this.paused = true
  }

  /** Reports messages again. */
  resume(): void {
    this.paused = false
    this.deliver()
  }

  /** Ends the stream once everything was sent, or after a short time. */
  close(reason: string): void {
    if (this.over || this.closing !== undefined) return
    this.closing = reason
    this.timer = setTimeout(() => this.reset({ reason, byPeer: false }), closeMs)
    if (this.writer.queuedBytes === 0) this.reset({ reason, byPeer: false })
  }

  /** Ends the stream because the peer or its socket is gone. */
  stop(reason: string): void {
    this.finish({ reason, byPeer: true })
  }

  /** Sends up to `frames` records; the rest waits for the stream's turn. */
  pump(frames: number): void {
    if (this.over) return
    const waited = this.waits
    this.waits = false
    for (let left = frames; this.writer.queuedBytes > 0; left--) {
      if (left === 0 || !this.turns.isOpen) {
        this.waits = true
        this.turns.wait(this)
        return
      }
      const sealed = this.writer.next()
      if (sealed === undefined) {
        this.reset({ reason: "the stream has used up its numbers", byPeer: false })
        return
      }
      this.turns.socket.send(NoiseFrame.record(this.streamId, sealed.seq, sealed.parts))
    }
    if (this.closing !== undefined) this.reset({ reason: this.closing, byPeer: false })
    else if (waited) this.events.onDrain()
  }

  private deliver(): void {
    // Delivering a message may call `resume` and this function again.
    if (this.delivering) return
    this.delivering = true
    while (!this.paused && !this.over && this.closing === undefined) {
      const message = this.reader.take()
      if (message === undefined) break
      this.events.onMessage(message)
    }
    this.delivering = false
  }

  private fail(fault: Fault): void {
    this.reset({ reason: protocolError, byPeer: false, fault })
  }

  /** Ends the stream and tells the peer. */
  private reset(end: StreamEnd): void {
    if (this.over) return
    if (!this.turns.isFull) this.turns.socket.send(NoiseFrame.reset(this.streamId, end.reason))
    this.finish(end)
  }

  private finish(end: StreamEnd): void {
    if (this.over) return
    this.over = true
    clearTimeout(this.timer)
    this.turns.leave(this)
    this.writer.release()
    this.reader.release()
    this.events.onEnd(end)
  }
}
