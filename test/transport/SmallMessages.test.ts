/** What a peer sends arrives as the messages that it sent, in that order, whatever their sizes. */
import { Buffer } from "node:buffer"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket, WebSocketServer } from "ws"
import type { Peer } from "../../src/session/Peer.js"
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
    const peer: Peer = WebSocketPeer.make(ws, request.socket, "the client", 60_000)
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
