/**
 * One encrypted virtual connection after its handshake: seals and opens records, takes turns with the other streams of
 * its socket, and ends at the first thing that is wrong.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import { FramePool, minBytes } from "../../session/FramePool.js"
import type { Turns } from "../RelayDriver.js"
import type { Keys } from "./Handshake.js"
import * as NoiseFrame from "./NoiseFrame.js"
import {
  type Fault,
  type Message,
  type ReaderOptions,
  RecordReader,
  RecordWriter,
  type Sealed,
  wideBytes
} from "./Records.js"

/** The reason of a reset after anything that the protocol does not allow. */
export const protocolError = "noise_relay_protocol_error"

/**
 * How many records the other side may leave unconsumed, if it acknowledges what it consumes: 12 MB at most, which a
 * rendezvous holds for a client that does not read. A larger window is slower: its memory is in no cache.
 */
const windowRecords = 128

/** How many records are consumed before the other side is told. */
const ackEvery = windowRecords / 4

/** How long messages sent before a `close` may take to leave, in milliseconds. */
const closeMs = 1000

/** The memory of frames on their way. Shared by all streams: few frames are on their way at a time. */
const frames = new FramePool()

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

/**
 * One stream over a socket. Paused at first.
 *
 * Two ends of this project tell each other which records they have consumed, so that a slow reader slows down its peer
 * and nobody between. The original does not, and is sent everything at once. Acknowledgements are not sealed: whoever
 * forges them can delay a stream, as by keeping its records back.
 */
export class NoiseStream {
  private readonly writer: RecordWriter
  private readonly reader: RecordReader
  private paused = true
  private delivering = false
  private waits = false
  /** Something sent had to wait: `onDrain` is due when it has left. */
  private lags = false
  /** Whether this side tells what it has consumed. */
  private acknowledges = false
  /** The last record that the peer was told of. */
  private told = 0
  /** The last record that the peer has consumed; undefined if it does not tell. */
  private consumed: number | undefined
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

  /** The bytes received and not consumed. */
  get heldBytes(): number {
    return this.reader.heldBytes
  }

  receive(seq: number, sealed: Buffer): void {
    if (this.over || this.closing !== undefined) return
    const outcome = this.reader.receive(seq, sealed)
    this.deliver()
    if (Either.isLeft(outcome)) this.fail(outcome.left)
  }

  /** The peer has consumed all records up to this one, and reads records up to `maxBytes`. */
  acknowledge(seq: number, maxBytes: number): void {
    if (this.over) return
    this.writer.widen(maxBytes)
    if (seq < this.writer.nextSeq) this.consumed = Math.max(this.consumed ?? 0, seq)
    else this.consumed ??= 0
    if (!this.acknowledges) this.offerAcks()
    if (!this.waits) this.pump(Number.POSITIVE_INFINITY)
  }

  /** Tells the peer that this side acknowledges. One that does so too answers. */
  offerAcks(): void {
    this.acknowledges = true
    this.reader.widen()
    this.turns.socket.send(NoiseFrame.ack(this.streamId, this.told, wideBytes))
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

  /** Ends the stream because it holds too much. */
  overflow(): void {
    this.fail("held")
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
    this.waits = false
    for (let left = frames; this.writer.queuedBytes > 0; left--) {
      if (this.isWindowFull) {
        this.lags = true
        return
      }
      if (left === 0 || !this.turns.isOpen) {
        this.lags = true
        this.waits = true
        this.turns.wait(this)
        return
      }
      const sealed = this.writer.next()
      if (sealed === undefined) {
        this.reset({ reason: "the stream has used up its numbers", byPeer: false })
        return
      }
      this.transmit(sealed)
    }
    if (this.closing !== undefined) this.reset({ reason: this.closing, byPeer: false })
    else if (this.lags) {
      this.lags = false
      this.events.onDrain()
    }
  }

  private transmit({ seq, parts }: Sealed): void {
    let room: Buffer | undefined
    const frame = NoiseFrame.record(this.streamId, seq, parts, (bytes) => {
      room = frames.take(bytes)
      return room
    })
    const { socket } = this.turns
    // A small frame is not worth a callback.
    if (room === undefined || frame.length < minBytes) socket.send(frame)
    else socket.send(frame, () => room === undefined || frames.give(room))
  }

  private get isWindowFull(): boolean {
    return this.consumed !== undefined && this.writer.nextSeq - this.consumed > windowRecords
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
    this.tell()
  }

  /** Tells the peer what was consumed. A message that is not complete yet counts, whole ones that wait do not. */
  private tell(): void {
    const last = this.reader.nextSeq - 1
    if (!this.acknowledges || this.over || this.reader.hasMessage || last - this.told < ackEvery) return
    this.told = last
    this.turns.socket.send(NoiseFrame.ack(this.streamId, last, wideBytes))
  }

  private fail(fault: Fault): void {
    this.reset({ reason: protocolError, byPeer: false, fault })
  }

  /** Ends the stream and tells the peer. */
  private reset(end: StreamEnd): void {
    if (this.over) return
    this.turns.reset(this.streamId, NoiseFrame.reset(this.streamId, end.reason))
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
