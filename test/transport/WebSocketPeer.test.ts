/** One peer on a WebSocket whose client is a bare socket: what bounds it, and how it is cut off. */
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import type { Peer } from "../../src/session/Peer.js"
import * as WebSocketPeer from "../../src/transport/WebSocketPeer.js"
import { fill, settle } from "../support/fake.js"
import { asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { eventually, rawSocket } from "../support/servers.js"

/** A peer that listens, what it was told, and its client's socket. */
const accepted = Effect.gen(function* () {
  const peers: Array<Peer> = []
  const told: Array<string> = []
  const server = yield* Effect.acquireRelease(
    Effect.async<ReturnType<typeof createServer>>((resume) => {
      const http = createServer()
      const upgrades = new WebSocketServer({ server: http, WebSocket: WebSocketPeer.ServerSocket })
      upgrades.on("connection", (ws, request) => {
        const peer = WebSocketPeer.make(ws, request.socket, "the client", 60_000)
        peer.listen({
          onMessage: (text) => told.push(text),
          onMalformed: (detail) => told.push(`malformed: ${detail}`),
          onDrain: () => {},
          onEnd: () => told.push("end")
        })
        peers.push(peer)
      })
      http.listen(0, "127.0.0.1", () => resume(Effect.succeed(http)))
    }),
    (http) =>
      Effect.sync(() => {
        http.close()
        http.closeAllConnections()
      })
  )
  const socket = yield* rawSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  assert.strictEqual((yield* asks(socket, upgrade())).status, 101)
  const [peer] = peers
  if (peer === undefined) return yield* Effect.dieMessage("nobody was accepted")
  return { peer, socket, told }
})

describe("a peer on a WebSocket", () => {
  it.scopedLive("that does not answer a close frame is cut off", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* accepted
      peer.close({ code: 1001, reason: "" })
      yield* ends(socket)
      yield* eventually("its end is told", () => told.includes("end"))
    })
  )

  it.scopedLive("that has said its last word and takes nothing is cut off", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* accepted
      socket.pause()
      // More than the kernel takes for it.
      peer.sendUtf8?.(fill(30_000_000), () => {})
      socket.end()
      yield* eventually("its end is told", () => told.includes("end"))
      assert.deepStrictEqual(told, ["end"])
    })
  )

  it.scopedLive("is not heard while it is paused, and heard in order afterwards", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* accepted
      peer.pause()
      for (const text of ["1", "2"]) socket.write(frame(1, text))
      for (let i = 0; i < 20; i++) yield* settle
      assert.deepStrictEqual(told, [])
      peer.resume()
      yield* eventually("it is heard", () => told.length === 2)
      assert.deepStrictEqual(told, ["1", "2"])
    })
  )

  it.scopedLive("is told as much of a reason as a close frame holds", () =>
    Effect.gen(function* () {
      for (const [reason, expected] of [
        ["x".repeat(123), "x".repeat(123)],
        ["x".repeat(124), "x".repeat(123)],
        [`x${"é".repeat(61)}`, `x${"é".repeat(61)}`],
        ["é".repeat(62), "é".repeat(61)]
      ] as const) {
        const { peer, socket } = yield* accepted
        peer.close({ code: 1001, reason })
        const length = 2 + Buffer.byteLength(expected)
        const bytes = yield* receives(socket, (all) => all.length >= 2 + length)
        const head = Buffer.from([0x88, length, 1001 >> 8, 1001 & 0xff])
        assert.deepStrictEqual(bytes, Buffer.concat([head, Buffer.from(expected)]))
      }
    })
  )

  it.scopedLive("has what waits for the end of the turn counted, and told what of its bytes is no text", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* accepted
      peer.send("abc")
      assert.strictEqual(peer.buffered(), 3)
      socket.write(frame(2, Buffer.from([0xff])))
      yield* eventually("it is told", () => told.length > 0)
      assert.deepStrictEqual(told, ["malformed: the binary frame is not valid UTF-8"])
    })
  )
})
