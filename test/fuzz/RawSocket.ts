/** A WebSocket client that sends whatever it is told to, one byte at a time if need be, and understands the answers. */
import { createConnection, type Socket } from "node:net"
import { upgrade } from "../support/raw.js"

/** What a frame may be told to look like. */
export interface FrameOptions {
  readonly fin?: boolean
  /** Reserved bits, 0 to 7. */
  readonly reserved?: number
  readonly masked?: boolean
  /** The length that the frame claims, if not its own. */
  readonly claims?: bigint
  /** Bytes that the length takes: 0, 2 or 8; the fewest possible without it. */
  readonly lengthBytes?: 0 | 2 | 8
}

const mask = Buffer.from([0x5a, 0x01, 0xff, 0x80])

/** One frame of any shape. */
export const frame = (opcode: number, payload: string | Buffer, options: FrameOptions = {}): Buffer => {
  const { fin = true, reserved = 0, masked = true } = options
  const bytes = Buffer.from(payload)
  const length = options.claims ?? BigInt(bytes.length)
  const lengthBytes = options.lengthBytes ?? (length < 126n ? 0 : length < 65536n ? 2 : 8)
  const extended = Buffer.alloc(lengthBytes)
  if (lengthBytes === 2) extended.writeUInt16BE(Number(length))
  if (lengthBytes === 8) extended.writeBigUInt64BE(length)
  const short = lengthBytes === 0 ? Number(length) : lengthBytes === 2 ? 126 : 127
  const head = Buffer.from([(fin ? 0x80 : 0) | (reserved << 4) | opcode, (masked ? 0x80 : 0) | short])
  if (!masked) return Buffer.concat([head, extended, bytes])
  const covered = Buffer.from(bytes)
  for (let i = 0; i < covered.length; i++) covered[i] = (covered[i] ?? 0) ^ (mask[i % 4] ?? 0)
  return Buffer.concat([head, extended, mask, covered])
}

/** What a server sends, as it comes. */
export interface Events {
  readonly onText: (text: string) => void
  readonly onPong: (payload: Buffer) => void
  /** The connection is gone: the close frame's code, 1005 without one in it, 1006 without a close frame. */
  readonly onEnd: (code: number) => void
}

/** One connection. */
export class RawSocket {
  private received: Buffer = Buffer.alloc(0)
  private upgraded = false
  private parts: Array<Buffer> = []
  private code = 1006
  ended = false

  private constructor(
    readonly socket: Socket,
    private readonly events: Events,
    private readonly onOpen: () => void
  ) {
    socket.setNoDelay(true)
    socket.on("data", (chunk: Buffer) => this.receive(chunk))
    socket.on("error", () => {})
    socket.once("close", () => {
      this.ended = true
      events.onEnd(this.code)
    })
  }

  /** Connects and upgrades. */
  static open(url: string, events: Events): Promise<RawSocket> {
    const { hostname, port } = new URL(url)
    return new Promise((resolve, reject) => {
      const socket = createConnection({ host: hostname, port: Number(port) })
      socket.once("connect", () => socket.write(upgrade()))
      const raw: RawSocket = new RawSocket(socket, events, () => resolve(raw))
      socket.once("error", reject)
      socket.once("close", () => reject(new Error("the server ended a connection before it was upgraded")))
    })
  }

  write(bytes: Buffer): void {
    if (!this.ended) this.socket.write(bytes)
  }

  text(text: string): void {
    this.write(frame(1, text))
  }

  private receive(chunk: Buffer): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk])
    if (!this.upgraded) {
      const end = this.received.indexOf("\r\n\r\n")
      if (end === -1) return
      if (!this.received.toString("latin1", 0, 12).startsWith("HTTP/1.1 101")) return void this.socket.destroy()
      this.upgraded = true
      this.received = this.received.subarray(end + 4)
      this.onOpen()
    }
    while (this.next()) {}
  }

  /** Takes one frame; false when it is not whole yet. */
  private next(): boolean {
    const { received } = this
    if (received.length < 2) return false
    const [first = 0, short = 0] = received
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0
    if (received.length < 2 + lengthBytes) return false
    const length =
      lengthBytes === 2 ? received.readUInt16BE(2) : lengthBytes === 8 ? Number(received.readBigUInt64BE(2)) : short
    const end = 2 + lengthBytes + length
    if (received.length < end) return false
    this.received = received.subarray(end)
    this.onFrame(first & 15, (first & 0x80) !== 0, received.subarray(2 + lengthBytes, end))
    return true
  }

  private onFrame(opcode: number, fin: boolean, payload: Buffer): void {
    if (opcode === 8) {
      this.code = payload.length < 2 ? 1005 : payload.readUInt16BE(0)
      this.socket.end(frame(8, payload.subarray(0, 2)))
    } else if (opcode === 9) this.write(frame(10, payload))
    else if (opcode === 10) this.events.onPong(payload)
    else {
      this.parts.push(payload)
      if (fin) this.events.onText(Buffer.concat(this.parts.splice(0)).toString())
    }
  }
}
