/** What a peer sends arrives as the messages that it sent, in that order, whatever their sizes. */
import { Buffer } from "node:buffer"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket, WebSocketServer } from "ws"
import { anonymous } from "../../src/session/Grant.js"
import type { Peer } from "../../src/session/Peer.js"
import { SmallMessages } from "../../src/transport/SmallMessages.js"
import * as WebSocketPeer from "../../src/transport/WebSocketPeer.js"
import { exposed } from "../support/exposed.js"
import { frame, receives, upgrade } from "../support/raw.js"
import { rawSocket } from "../support/servers.js"

/** A peer, and the genuine client at its other end. */
const pair = Effect.acquireRelease(
  Effect.promise(async () => {
    const http = createServer().listen(0, "127.0.0.1")
    const server = new WebSocketServer({
      server: http,
      WebSocket: WebSocketPeer.ServerSocket,
      perMessageDeflate: false
    })
    await once(http, "listening")
    const client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`)
    const messages: Array<{ readonly data: Buffer; readonly isBinary: boolean }> = []
    client.on("message", (data: Buffer, isBinary) => messages.push({ data, isBinary }))
    const [[ws, request]] = await Promise.all([once(server, "connection"), once(client, "open")])
    const peer: Peer = WebSocketPeer.make(ws, request.socket, {
      name: "the client",
      grant: anonymous,
      pingIntervalMs: 60_000
    })
    return { http, server, client, messages, peer }
  }),
  ({ client, http, server }) =>
    Effect.sync(() => {
      client.terminate()
      server.close()
      http.close()
    })
)

const texts = [0, 1, 41, 42, 125, 126, 127, 1023, 1024, 1025, 65_535, 65_536].flatMap((length) => [
  "a".repeat(length),
  "é".repeat(length),
  "€".repeat(length),
  "😀".repeat(length)
])

describe("messages to a WebSocket", () => {
  it.scopedLive("of every size, in one turn and in many", () =>
    Effect.gen(function* () {
      const { client, messages, peer } = yield* pair
      for (const text of texts) peer.send(text)
      for (const text of texts) {
        peer.send(text)
        yield* Effect.yieldNow()
      }
      peer.close({ code: 1000, reason: "enough" })
      yield* Effect.promise(() => once(client, "close"))
      assert.isTrue(messages.every(({ isBinary }) => !isBinary))
      assert.deepStrictEqual(
        messages.map(({ data }) => data.toString()),
        [...texts, ...texts]
      )
    })
  )

  it.scopedLive("of every kind, in the order they were sent", () =>
    Effect.gen(function* () {
      const { client, messages, peer } = yield* pair
      const large = "x".repeat(5000)
      let sent = 0
      peer.send("1")
      peer.send(large)
      peer.send("2")
      peer.sendUtf8?.(Buffer.from("é3"), () => sent++)
      peer.send("4")
      peer.sendBinary?.(Buffer.from([5]), () => sent++)
      peer.send("6")
      peer.sendPart?.(Buffer.from("7"), false)
      peer.sendPart?.(Buffer.from("8"), true)
      peer.send("9")
      assert.isAbove(peer.buffered(), 0)
      peer.close({ code: 1001, reason: "enough" })
      const [code] = yield* Effect.promise(() => once(client, "close"))
      assert.strictEqual(code, 1001)
      assert.deepStrictEqual(
        messages.map(({ data, isBinary }) => (isBinary ? [...data] : data.toString())),
        ["1", large, "2", "é3", "4", [5], "6", "78", "9"]
      )
      assert.strictEqual(sent, 2)
    })
  )

  it.scopedLive("nothing is sent to one that is gone", () =>
    Effect.gen(function* () {
      const { client, peer } = yield* pair
      peer.send("before")
      client.terminate()
      yield* Effect.async<void>((resume) =>
        peer.listen({
          onMessage: () => {},
          onMalformed: () => {},
          onDrain: () => {},
          onEnd: () => resume(Effect.void)
        })
      )
      peer.send("after")
      yield* Effect.yieldNow()
      assert.strictEqual(peer.buffered(), 0)
    })
  )

  it.scopedLive("answers go before the close frame of a client that asks and hangs up in one write", () =>
    Effect.gen(function* () {
      const url = yield* exposed()
      const socket = yield* rawSocket(url)
      socket.write(upgrade())
      yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
      const asked = Buffer.concat([1, 2].map((id) => frame(1, JSON.stringify({ id, method: "nope" }))))
      socket.write(Buffer.concat([asked, frame(8, Buffer.from([3, 232]))]))
      const bytes = yield* receives(socket, () => false)
      const ids = Array.from(bytes.toString("latin1").matchAll(/"id":(\d)/g), ([, id]) => id)
      assert.deepStrictEqual(ids, ["1", "2"])
      assert.deepStrictEqual([...bytes.subarray(-4)], [0x88, 2, 3, 232])
    })
  )
})

/** Small messages to a socket that keeps what is written, and each write apart. */
const small = () => {
  const writes: Array<Buffer> = []
  const socket = { writable: true, write: (bytes: Buffer) => writes.push(Buffer.from(bytes)) }
  return { messages: new SmallMessages(socket as unknown as Socket), socket, writes }
}

const tick = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** A server's text frame of up to 65,535 bytes, RFC 6455 section 5.2, with the shortest length there is. */
const textFrame = (text: string) => {
  const bytes = Buffer.from(text)
  const length = bytes.length <= 125 ? [bytes.length] : [126, bytes.length >> 8, bytes.length & 0xff]
  return Buffer.concat([Buffer.from([0x81, ...length]), bytes])
}

describe("small messages", () => {
  it.live("of one turn leave in one write, but no more than 16 in each", () =>
    Effect.gen(function* () {
      const { messages, writes } = small()
      for (let i = 0; i < 15; i++) messages.add("x")
      assert.deepStrictEqual([writes.length, messages.waiting], [0, 15])
      messages.add("x")
      assert.deepStrictEqual([writes.length, messages.waiting], [1, 0])
      yield* tick
      assert.lengthOf(writes, 1, "nothing is written when nothing waits")
      messages.add("y")
      messages.add("z")
      yield* tick
      assert.deepStrictEqual(writes[1], Buffer.concat([textFrame("y"), textFrame("z")]))
    })
  )

  it("have up to 1,024 characters; longer ones are left to the caller", () => {
    const { messages, writes } = small()
    assert.isTrue(messages.add("x".repeat(1024)))
    assert.isFalse(messages.add("x".repeat(1025)))
    messages.flush()
    assert.deepStrictEqual(writes, [textFrame("x".repeat(1024))])
  })

  it("are frames with the shortest length, and nothing of the longest ones is cut", () => {
    for (const length of [0, 1, 41, 42, 43, 124, 125, 126, 341, 342, 1024]) {
      for (const character of ["a", "é", "€"]) {
        const { messages, writes } = small()
        const texts = Array.from({ length: 16 }, () => character.repeat(length))
        for (const text of texts) messages.add(text)
        assert.deepStrictEqual(writes, [Buffer.concat(texts.map(textFrame))])
      }
    }
  })

  it.live("are not written to a socket that takes none any more", () =>
    Effect.gen(function* () {
      const { messages, socket, writes } = small()
      messages.add("x")
      socket.writable = false
      yield* tick
      assert.deepStrictEqual([writes.length, messages.waiting], [0, 0])
    })
  )
})
