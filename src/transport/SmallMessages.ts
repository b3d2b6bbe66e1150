/**
 * Small text messages to a WebSocket: those of one turn of the event loop leave together. Written by ws one by one,
 * each is two entries of a longer system call, which is a tenth of what a small request costs
 * (`npm run bench -- --only requests`).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"

/** The longest text of a small message, in characters. */
const maxLength = 1024

/**
 * How many leave together at most. A client that keeps many requests in flight works on the first answers while the
 * next ones are made: of 64, 150,000 a second with this many, 85,000 when all wait for the end of the turn.
 */
const maxMessages = 16

/** The most bytes of UTF-8 that a character of a string becomes. */
const maxCharacterBytes = 3

/** The head of a server's text frame, RFC 6455 section 5.2: the last one of its message, not masked. */
const frame = { text: 0x81, maxLength7: 125, length16: 126, headBytes: 4 } as const

/** The messages that wait, until the end of the turn at most. */
export class SmallMessages {
  private texts: Array<string> = []
  private length = 0

  constructor(private readonly socket: Socket) {}

  /** Characters that wait. */
  get waiting(): number {
    return this.length
  }

  /** Takes a message, unless it is too long. */
  add(text: string): boolean {
    if (text.length > maxLength) return false
    if (this.texts.length === 0) process.nextTick(() => this.flush())
    this.texts.push(text)
    this.length += text.length
    if (this.texts.length === maxMessages) this.flush()
    return true
  }

  /** Writes what waits. To be called before anything else is written to the socket. */
  flush(): void {
    if (this.texts.length === 0) return
    const { texts } = this
    const bytes = Buffer.allocUnsafe(this.length * maxCharacterBytes + texts.length * frame.headBytes)
    this.texts = []
    this.length = 0
    let end = 0
    for (const text of texts) end = write(bytes, end, text)
    if (this.socket.writable) this.socket.write(bytes.subarray(0, end))
  }
}

/** Writes one frame; returns the end offset. */
const write = (bytes: Buffer, start: number, text: string): number => {
  const isShort = text.length * maxCharacterBytes <= frame.maxLength7
  const length = isShort ? bytes.write(text, start + 2) : Buffer.byteLength(text)
  bytes[start] = frame.text
  if (length <= frame.maxLength7) {
    bytes[start + 1] = length
    return start + 2 + (isShort ? length : bytes.write(text, start + 2))
  }
  bytes[start + 1] = frame.length16
  bytes.writeUInt16BE(length, start + 2)
  return start + frame.headBytes + bytes.write(text, start + frame.headBytes)
}
