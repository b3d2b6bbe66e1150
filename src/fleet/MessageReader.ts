/**
 * Reads the first messages of a WebSocket connection from its socket, and gives the rest back unread. Either side of the
 * connection: a client's frames are masked, a server's are not (RFC 6455, section 5).
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import type { Duplex } from "node:stream"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** The connection ended, or what came was no message. */
export class ReadError extends Data.TaggedError("ReadError")<{
  readonly message: string
  /** The code for a close frame; undefined if the other side has gone. */
  readonly code: 1000 | 1002 | 1003 | 1007 | 1009 | undefined
}> {}

const opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** The most frames of one message, and control frames before it. */
const maxFrames = 1024

/** The longest header, in bytes: two, eight of length, four of mask. */
const headBytes = (length: number, masked: boolean) =>
  2 + (length < 126 ? 0 : length < 65536 ? 2 : 8) + (masked ? 4 : 0)

/** One unfragmented frame. A client's has a mask of zeros, which costs nothing to apply and remove. */
const frame = (code: number, payload: Uint8Array, masked: boolean): Buffer => {
  const { length } = payload
  const head = headBytes(length, masked)
  const bytes = Buffer.alloc(head + length)
  bytes[0] = 0x80 | code
  const bit = masked ? 0x80 : 0
  if (length < 126) bytes[1] = bit | length
  else if (length < 65536) {
    bytes[1] = bit | 126
    bytes.writeUInt16BE(length, 2)
  } else {
    bytes[1] = bit | 127
    bytes.writeBigUInt64BE(BigInt(length), 2)
  }
  bytes.set(payload, head)
  return bytes
}

/** A text message in one frame; `masked` if a client sends it. */
export const text = (message: string, masked: boolean): Buffer => frame(opcode.text, Buffer.from(message), masked)

/** The longest reason of a close frame, in bytes. */
const maxReasonBytes = 123

/** A server's close frame. */
export const close = (code: number, reason: string): Buffer => {
  const bytes = Buffer.alloc(2 + maxReasonBytes)
  bytes.writeUInt16BE(code)
  const { written } = new TextEncoder().encodeInto(reason, bytes.subarray(2))
  return frame(opcode.close, bytes.subarray(0, 2 + written), false)
}

/** A frame at the beginning of some bytes. */
interface Frame {
  readonly code: number
  readonly isLast: boolean
  readonly payload: Buffer
  /** The number of its bytes. */
  readonly size: number
}

/** Options of a reader. */
export interface Options {
  /** Whether the other side is a client. */
  readonly masked: boolean
  /** The longest message, in bytes. */
  readonly maxBytes: number
  /** What has already been read. */
  readonly head?: Buffer
}

/** Reads messages from a socket until it is released. */
export class MessageReader {
  private bytes: Buffer
  private parts: Array<Buffer> = []
  private partBytes = 0
  private frames = 0
  private ended = false
  private wake: (() => void) | undefined

  constructor(
    private readonly socket: Duplex,
    private readonly options: Options
  ) {
    this.bytes = options.head ?? Buffer.alloc(0)
    socket.on("data", this.onData)
    socket.on("end", this.onEnd)
    socket.on("close", this.onEnd)
    socket.pause()
  }

  private readonly onData = (chunk: Buffer) => {
    this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk])
    this.socket.pause()
    this.wake?.()
  }

  private readonly onEnd = () => {
    this.ended = true
    this.wake?.()
  }

  /** The next message. Answers pings that come before it. Interrupting it leaves the reader as it is. */
  get message(): Effect.Effect<string, ReadError> {
    return Effect.async((resume) => {
      const attempt = () => {
        const found = this.next()
        if (found === undefined) return void this.socket.resume()
        this.wake = undefined
        resume(typeof found === "string" ? Effect.succeed(found) : Effect.fail(found))
      }
      this.wake = attempt
      attempt()
      return Effect.sync(() => {
        this.wake = undefined
        this.socket.pause()
      })
    })
  }

  /** Stops reading, and returns what has not been read. */
  release(): Buffer {
    this.socket.off("data", this.onData)
    this.socket.off("end", this.onEnd)
    this.socket.off("close", this.onEnd)
    this.socket.pause()
    const { bytes } = this
    this.bytes = Buffer.alloc(0)
    return bytes
  }

  private fail(code: ReadError["code"], message: string): ReadError {
    return new ReadError({ code, message })
  }

  /** The first frame of the bytes; undefined if it is not complete. */
  private peek(): Frame | ReadError | undefined {
    const { bytes } = this
    const { masked, maxBytes } = this.options
    const [first, second] = bytes
    if (first === undefined || second === undefined) return undefined
    if ((first & 0x70) !== 0) return this.fail(1002, "a frame has reserved bits")
    if (((second & 0x80) !== 0) !== masked)
      return this.fail(1002, masked ? "a frame is not masked" : "a frame is masked")
    const short = second & 0x7f
    const head = 2 + (short === 126 ? 2 : short === 127 ? 8 : 0) + (masked ? 4 : 0)
    if (bytes.length < head) return undefined
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
    if (length > maxBytes) return this.fail(1009, `a message is longer than ${maxBytes} bytes`)
    const size = head + length
    if (bytes.length < size) return undefined
    const payload = Buffer.from(bytes.subarray(head, size))
    if (masked) {
      for (let i = 0; i < length; i++) payload[i] = (payload[i] ?? 0) ^ (bytes[head - 4 + (i & 3)] ?? 0)
    }
    return { code: first & 0x0f, isLast: (first & 0x80) !== 0, payload, size }
  }

  /** The next message, or why there is none; undefined if more must come. */
  private next(): string | ReadError | undefined {
    for (;;) {
      const found = this.peek()
      if (found instanceof ReadError) return found
      if (found === undefined) return this.ended ? this.fail(undefined, "the connection has ended") : undefined
      this.bytes = this.bytes.subarray(found.size)
      this.frames++
      if (this.frames > maxFrames) return this.fail(1002, "too many frames")
      const { code, isLast, payload } = found
      if (code >= opcode.close) {
        if (!isLast || payload.length > 125) return this.fail(1002, "a control frame is too long, or in parts")
        if (code === opcode.close) return this.fail(1000, "the connection was closed")
        if (code === opcode.ping) this.socket.write(frame(opcode.pong, payload, !this.options.masked))
        else if (code !== opcode.pong) return this.fail(1002, "an unknown frame")
        continue
      }
      const isFirst = this.parts.length === 0
      if (code > opcode.binary || (code === opcode.continuation) === isFirst) {
        return this.fail(1002, "a frame is out of order")
      }
      this.parts.push(payload)
      this.partBytes += payload.length
      if (this.partBytes > this.options.maxBytes) {
        return this.fail(1009, `a message is longer than ${this.options.maxBytes} bytes`)
      }
      if (!isLast) continue
      const message = Buffer.concat(this.parts)
      this.parts = []
      this.partBytes = 0
      this.frames = 0
      return isUtf8(message) ? message.toString() : this.fail(1007, "a message is not valid UTF-8")
    }
  }
}
