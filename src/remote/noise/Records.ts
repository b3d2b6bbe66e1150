/**
 * Messages as sealed records: each direction of a stream is a sequence of bytes, of messages with their lengths before
 * them, which is cut and encrypted. A record's number is its nonce: none can be changed, repeated, left out or moved
 * without ending the stream.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import { open, sealParts, tagBytes } from "./SymmetricState.js"

/** The longest plaintext of a record, in bytes. */
export const maxPlaintextBytes = 61440

/** The same between two ends of this project: the largest chunk of output as base64, and its envelope. */
export const wideBytes = 90112

/** How far a record may be ahead of the next one. */
const maxAhead = 64

/** The most bytes of records that wait for an earlier one. */
const maxWaitingBytes = 1048576

/** The most messages that share a record. */
const maxShared = 64

/** The bytes of the length before a message: big-endian. */
const lengthBytes = 4

/** Records are not numbered beyond this: the stream ends. */
const maxSeq = 0xffffffff

/** A message to send, and what to call when its last byte was sealed. */
export interface Message {
  readonly payload: Uint8Array
  readonly onSealed?: (() => void) | undefined
}

/** A sealed record: its number, and its bytes in parts. */
export interface Sealed {
  readonly seq: number
  readonly parts: ReadonlyArray<Uint8Array>
}

/** Cuts messages into records, and seals them. */
export class RecordWriter {
  private readonly queue: Array<Message> = []
  /** The bytes of the first message that were sealed, its length included. */
  private done = 0
  private seq = 0
  private queued = 0
  private maxBytes = maxPlaintextBytes

  constructor(private readonly key: Uint8Array) {}

  /** The bytes of messages that are not sealed yet. */
  get queuedBytes(): number {
    return this.queued
  }

  /** The number of the next record. */
  get nextSeq(): number {
    return this.seq
  }

  /** Whether there are no numbers left for further records. */
  get isSpent(): boolean {
    return this.seq > maxSeq
  }

  enqueue(message: Message): void {
    this.queue.push(message)
    this.queued += message.payload.byteLength
  }

  /** The reader accepts records up to this length. Messages share records from now on. */
  widen(bytes: number): void {
    this.maxBytes = Math.max(maxPlaintextBytes, Math.min(bytes, wideBytes))
  }

  /** Seals the next record, if there is anything to send. Each message begins a record, unless the reader is wide. */
  next(): Sealed | undefined {
    if (this.queue.length === 0 || this.isSpent) return undefined
    const plaintext: Array<Uint8Array> = []
    const finished: Array<Message> = []
    for (let room = this.maxBytes; room > lengthBytes; ) {
      const [message] = this.queue
      if (message === undefined) break
      const { payload } = message
      const isFirst = this.done === 0
      const from = isFirst ? 0 : this.done - lengthBytes
      const whole = payload.byteLength - from + (isFirst ? lengthBytes : 0)
      // Only what fits as a whole shares a record: large messages are not cut more often than they must be.
      if (plaintext.length > 0 && whole > room) break
      const to = Math.min(payload.byteLength, from + room - (isFirst ? lengthBytes : 0))
      const piece = payload.subarray(from, to)
      if (isFirst) plaintext.push(lengthOf(payload))
      plaintext.push(piece)
      this.queued -= piece.byteLength
      room -= piece.byteLength + (isFirst ? lengthBytes : 0)
      if (to < payload.byteLength) {
        this.done = to + lengthBytes
        break
      }
      this.queue.shift()
      this.done = 0
      finished.push(message)
      if (this.maxBytes === maxPlaintextBytes || finished.length === maxShared) break
    }
    const seq = this.seq++
    const parts = sealParts(this.key, seq, plaintext)
    for (const { onSealed } of finished) onSealed?.()
    return { seq, parts }
  }

  /** Forgets what was not sealed. */
  release(): void {
    for (const { onSealed } of this.queue.splice(0)) onSealed?.()
    this.queued = 0
  }
}

const lengthOf = ({ byteLength }: Uint8Array): Buffer => {
  const bytes = Buffer.allocUnsafe(lengthBytes)
  bytes.writeUInt32BE(byteLength)
  return bytes
}

/** Why a stream cannot go on. Few reasons, so that they can be counted. */
export type Fault =
  /** A record was changed, or made by somebody else. */
  | "authentication"
  /** A record is longer than allowed. */
  | "recordSize"
  /** A message is empty or longer than allowed. */
  | "messageSize"
  /** A record is too far ahead of the next one. */
  | "window"
  /** Too many bytes wait for an earlier record, or to be consumed. */
  | "held"

/** What a piece of a message takes beyond its bytes, in bytes. */
const pieceOverhead = 128

/** The bytes held by all readers that share a limit. */
export interface Budget {
  used: number
}

/** Limits of a reader. */
export interface ReaderOptions {
  readonly maxMessageBytes: number
  /** The most bytes held by all readers of the budget. */
  readonly maxHeldBytes: number
  readonly budget: Budget
}

/** Puts records in order, opens them and joins them to messages. After a fault it must not be used. */
export class RecordReader {
  private seq = 0
  private readonly waiting = new Map<number, Buffer>()
  private waitingBytes = 0
  private readonly messages: Array<Buffer> = []
  /** The beginning of a message: pieces, and their length together. */
  private pieces: Array<Buffer> = []
  private pieceBytes = 0
  /** How many bytes the next step takes: a length, or a message with its length. */
  private needed = lengthBytes
  private held = 0
  private maxBytes = maxPlaintextBytes

  constructor(
    private readonly key: Uint8Array,
    private readonly options: ReaderOptions
  ) {}

  /** The number of the next record. */
  get nextSeq(): number {
    return this.seq
  }

  /** The bytes held. */
  get heldBytes(): number {
    return this.held
  }

  /** Whether a whole message waits to be taken. */
  get hasMessage(): boolean {
    return this.messages.length > 0
  }

  /** Accepts records up to `wideBytes` from now on. */
  widen(): void {
    this.maxBytes = wideBytes
  }

  /** Reads one record. One that came before is dropped. */
  receive(seq: number, sealed: Buffer): Either.Either<void, Fault> {
    if (seq < this.seq || this.waiting.has(seq)) return ok
    if (sealed.length > this.maxBytes + tagBytes) return Either.left("recordSize")
    if (seq > this.seq) return this.keep(seq, sealed)
    let fault = this.openNext(sealed)
    for (let next = this.waiting.get(this.seq); fault === undefined && next !== undefined; ) {
      this.waiting.delete(this.seq)
      this.waitingBytes -= next.length
      this.hold(-next.length)
      fault = this.openNext(next)
      next = this.waiting.get(this.seq)
    }
    return fault === undefined ? ok : Either.left(fault)
  }

  /** The next message received. */
  take(): Buffer | undefined {
    const message = this.messages.shift()
    if (message !== undefined) this.hold(-message.length)
    return message
  }

  /** Forgets everything held. */
  release(): void {
    this.hold(-this.held)
    this.waiting.clear()
    this.messages.length = 0
    this.pieces = []
  }

  private keep(seq: number, sealed: Buffer): Either.Either<void, Fault> {
    if (seq - this.seq > maxAhead) return Either.left("window")
    this.waitingBytes += sealed.length
    if (this.waitingBytes > maxWaitingBytes || !this.hold(sealed.length)) return Either.left("held")
    // Copied: a view would keep a whole frame in memory, which may be far longer.
    this.waiting.set(seq, Buffer.from(sealed))
    return ok
  }

  private openNext(sealed: Buffer): Fault | undefined {
    let plaintext: Buffer
    try {
      plaintext = open(this.key, this.seq, sealed)
    } catch {
      return "authentication"
    }
    this.seq++
    return this.join(plaintext)
  }

  /** Appends to the bytes of the direction, and cuts off the messages that are complete. */
  private join(plaintext: Buffer): Fault | undefined {
    if (!this.hold(plaintext.length + pieceOverhead)) return "held"
    this.pieces.push(plaintext)
    this.pieceBytes += plaintext.length
    if (this.pieceBytes < this.needed) return undefined
    const all = this.pieces.length === 1 ? plaintext : Buffer.concat(this.pieces, this.pieceBytes)
    let at = 0
    for (this.needed = lengthBytes; all.length - at >= this.needed; this.needed = lengthBytes) {
      const length = all.readUInt32BE(at)
      if (length === 0 || length > this.options.maxMessageBytes) return "messageSize"
      this.needed = lengthBytes + length
      if (all.length - at < this.needed) break
      this.messages.push(all.subarray(at + lengthBytes, at + this.needed))
      this.hold(-lengthBytes)
      at += this.needed
    }
    // Copied: a view would keep whole messages in memory.
    this.keepRest(at === 0 ? all : Buffer.from(all.subarray(at)))
    return undefined
  }

  /** Replaces all pieces by one. */
  private keepRest(rest: Buffer): void {
    const pieces = rest.length === 0 ? [] : [rest]
    this.hold((pieces.length - this.pieces.length) * pieceOverhead)
    this.pieces = pieces
    this.pieceBytes = rest.length
  }

  /** Counts held bytes. False if they exceed the limit. */
  private hold(bytes: number): boolean {
    this.held += bytes
    const { budget, maxHeldBytes } = this.options
    budget.used += bytes
    return bytes <= 0 || budget.used <= maxHeldBytes
  }
}

const ok: Either.Either<void, never> = Either.right(undefined)
