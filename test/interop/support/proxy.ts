/** What lies between the client and the server: it writes down every message, and cuts connections when told to. */
import { Buffer } from "node:buffer"
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Json } from "../../support/TestClient.js"

export interface TcpProxy {
  readonly url: string
  /** What the client has sent so far, on all connections. */
  readonly asked: ReadonlyArray<Json>
  /** What the server has sent so far, on all connections. */
  readonly told: ReadonlyArray<Json>
  /** Cuts all connections, without a goodbye to either side. */
  readonly cut: Effect.Effect<void>
}

/** Reads one direction of a WebSocket connection: an HTTP head, then frames. */
class Reader {
  private bytes: Buffer = Buffer.alloc(0)
  private readonly parts: Array<Buffer> = []
  private upgraded = false

  constructor(private readonly messages: Array<Json>) {}

  take(chunk: Buffer): void {
    this.bytes = Buffer.concat([this.bytes, chunk])
    if (!this.upgraded) {
      const end = this.bytes.indexOf("\r\n\r\n")
      if (end < 0) return
      this.upgraded = true
      this.bytes = this.bytes.subarray(end + 4)
    }
    while (this.frame());
  }

  /** Takes one frame, if there is a whole one. */
  private frame(): boolean {
    const { bytes } = this
    if (bytes.length < 2) return false
    const short = bytes.readUInt8(1) & 0x7f
    const masked = bytes.readUInt8(1) >= 0x80
    const head = 2 + (short === 126 ? 2 : short === 127 ? 8 : 0)
    const start = head + (masked ? 4 : 0)
    if (bytes.length < start) return false
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
    if (bytes.length < start + length) return false
    const payload = Buffer.from(bytes.subarray(start, start + length))
    if (masked) for (let i = 0; i < length; i++) payload[i] = (payload[i] ?? 0) ^ (bytes[head + (i % 4)] ?? 0)
    this.bytes = bytes.subarray(start + length)
    const opcode = bytes.readUInt8(0) & 0x0f
    // Text, or more of it: large messages come in several frames.
    if (opcode > 1) return true
    this.parts.push(payload)
    if (bytes.readUInt8(0) >= 0x80) this.messages.push(JSON.parse(Buffer.concat(this.parts.splice(0)).toString()))
    return true
  }
}

/** Forwards connections to a server until the scope closes. */
export const proxyTo = (url: string): Effect.Effect<TcpProxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { hostname, port } = new URL(url)
    const asked: Array<Json> = []
    const told: Array<Json> = []
    const open = new Set<Socket>()
    const forward = (from: Socket, to: Socket, messages: Array<Json>) => {
      const reader = new Reader(messages)
      open.add(from)
      from.setNoDelay(true)
      from.on("data", (chunk) => {
        reader.take(chunk)
        if (!to.write(chunk)) from.pause()
      })
      to.on("drain", () => from.resume())
      from.on("error", () => to.destroy())
      from.once("end", () => to.end())
      from.once("close", () => {
        open.delete(from)
        to.destroy()
      })
    }
    const server = createServer((client) => {
      const upstream = createConnection({ host: hostname, port: Number(port) })
      forward(client, upstream, asked)
      forward(upstream, client, told)
    })
    const cut = Effect.sync(() => {
      for (const socket of open) socket.destroy()
    })
    const address = yield* Effect.acquireRelease(
      Effect.async<AddressInfo>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server.address() as AddressInfo)))
      }),
      () =>
        Effect.zipRight(
          cut,
          Effect.sync(() => server.close())
        )
    )
    return { url: `ws://127.0.0.1:${address.port}`, asked, told, cut }
  })
