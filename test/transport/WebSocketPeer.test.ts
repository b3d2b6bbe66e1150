/** One peer on a WebSocket whose client is a bare socket: what bounds it, and how it is cut off. */
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import { anonymous } from "../../src/session/Grant.js"
import type { Peer } from "../../src/session/Peer.js"
import { UnfinishedMessages } from "../../src/transport/UnfinishedMessages.js"
import * as WebSocketPeer from "../../src/transport/WebSocketPeer.js"
import { fill, settle } from "../support/fake.js"
import { asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { eventually, rawSocket } from "../support/servers.js"

/** A peer that listens, what it was told, and its client's socket. */
const acceptedWith = (pingIntervalMs: number, unfinished?: UnfinishedMessages) =>
  Effect.gen(function* () {
    const peers: Array<Peer> = []
    const told: Array<string> = []
    const server = yield* Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>>((resume) => {
        const http = createServer()
        const upgrades = new WebSocketServer({ server: http, WebSocket: WebSocketPeer.ServerSocket })
        upgrades.on("connection", (ws, request) => {
          const options = { name: "the client", grant: anonymous, pingIntervalMs, unfinished }
          const peer = WebSocketPeer.make(ws, request.socket, options)
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

const accepted = acceptedWith(60_000)

/** More than the kernel takes for a client that reads nothing. */
const muchMore = 30_000_000

const ping = "\x89\x00"

/** Timers that keep this process alive. */
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length

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
      peer.sendUtf8?.(fill(muchMore), () => {})
      socket.end()
      yield* eventually("its end is told", () => told.includes("end"))
      assert.deepStrictEqual(told, ["end"])
    })
  )

  it.scopedLive("that is cut off for its unfinished message is gone at once: its answer is not waited for", () =>
    Effect.gen(function* () {
      const { socket, told } = yield* acceptedWith(60_000, new UnfinishedMessages(1000))
      // No time passes.
      yield* Effect.acquireRelease(
        Effect.sync(() => vi.useFakeTimers({ toFake: ["setTimeout"] })),
        () => Effect.sync(() => vi.useRealTimers())
      )
      // The first frame of a text, masked by nothing.
      socket.write(Buffer.concat([Buffer.from([0x01, 0xfe, 2000 >> 8, 2000 & 0xff, 0, 0, 0, 0]), fill(2000)]))
      const bytes = yield* ends(socket)
      assert.strictEqual(bytes.readUInt16BE(2), 1008)
      yield* settle
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

  it.scopedLive("is there without being asked if it was heard lately; one that is silent is asked", () =>
    Effect.gen(function* () {
      const lively = yield* accepted
      const answers: Array<boolean> = []
      lively.peer.probe?.((isAlive) => answers.push(isAlive))
      assert.deepStrictEqual(answers, [true])
      const silent = yield* acceptedWith(1000)
      yield* receives(silent.socket, (bytes) => bytes.includes(ping, 0, "latin1"))
      silent.peer.probe?.((isAlive) => answers.push(isAlive))
      assert.lengthOf(answers, 1)
      silent.socket.write(frame(10, ""))
      yield* eventually("it has answered", () => answers.length === 2)
      assert.deepStrictEqual(answers, [true, true])
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

  it.scopedLive("is sent nothing after the close frame", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* accepted
      peer.send("before")
      peer.close({ code: 1001, reason: "" })
      for (const send of [peer.send, (text: string) => peer.sendPart?.(Buffer.from(text), true)]) send("after")
      const frames = Buffer.from([0x81, 6, ...Buffer.from("before"), 0x88, 2, 1001 >> 8, 1001 & 0xff])
      assert.deepStrictEqual(yield* receives(socket, (all) => all.length >= frames.length), frames)
      socket.write(frame(8, Buffer.from([1001 >> 8, 1001 & 0xff])))
      assert.deepStrictEqual(yield* ends(socket), Buffer.alloc(0))
      yield* eventually("its end is told", () => told.includes("end"))
    })
  )

  it.scopedLive("that was paused is heard until it has answered the close frame, and need not be cut off", () =>
    Effect.gen(function* () {
      const silent = yield* accepted
      silent.peer.close({ code: 1001, reason: "" })
      const { peer, socket, told } = yield* accepted
      peer.pause()
      socket.write(frame(1, "1"))
      peer.close({ code: 1001, reason: "" })
      yield* receives(socket, (all) => all.length >= 4)
      socket.write(frame(8, Buffer.from([1001 >> 8, 1001 & 0xff])))
      yield* eventually("its end is told", () => told.includes("end"))
      assert.deepStrictEqual(told, ["1", "end"])
      assert.deepStrictEqual(silent.told, [])
    })
  )

  it.scopedLive("that leaves three pings unanswered is cut off; one that answers them is not", () =>
    Effect.gen(function* () {
      const answering = yield* acceptedWith(50)
      answering.socket.on("data", () => answering.socket.write(frame(10, "")))
      const { socket, told } = yield* acceptedWith(50)
      const bytes = yield* ends(socket)
      assert.strictEqual(bytes.toString("latin1").split(ping).length - 1, 3)
      yield* eventually("its end is told", () => told.includes("end"))
      yield* receives(answering.socket, (all) => all.toString("latin1").split(ping).length > 8)
      assert.deepStrictEqual(answering.told, [])
    })
  )

  it.scopedLive("that leaves them unanswered is cut off, however often it is resumed without having been paused", () =>
    Effect.gen(function* () {
      const { peer, told } = yield* acceptedWith(50)
      yield* Effect.acquireRelease(
        Effect.sync(() => setInterval(() => peer.resume(), 10)),
        (timer) => Effect.sync(() => clearInterval(timer))
      )
      yield* eventually("its end is told", () => told.includes("end"))
    })
  )

  it.scopedLive("that takes nothing of what waits for it, and says nothing, is cut off, paused or not", () =>
    Effect.gen(function* () {
      for (const isPaused of [false, true]) {
        const { peer, socket, told } = yield* acceptedWith(50)
        socket.pause()
        if (isPaused) peer.pause()
        peer.sendUtf8?.(fill(muchMore), () => {})
        yield* eventually("its end is told", () => told.includes("end"))
      }
    })
  )

  it.scopedLive("is not cut off while it is paused: its answers to pings cannot be heard", () =>
    Effect.gen(function* () {
      const { peer, socket, told } = yield* acceptedWith(50)
      peer.pause()
      socket.write(frame(1, "1"))
      const bytes = yield* receives(socket, (all) => all.toString("latin1").split(ping).length > 8)
      assert.isFalse(socket.destroyed, bytes.toString("latin1"))
      assert.deepStrictEqual(told, [])
      peer.resume()
      yield* eventually("it is heard", () => told.length > 0)
      assert.deepStrictEqual(told, ["1"])
    })
  )

  it.scopedLive("that is gone leaves no timer behind", () =>
    Effect.gen(function* () {
      const count = 20
      const before = timers()
      for (let i = 0; i < count; i++) {
        const { socket, told } = yield* accepted
        socket.destroy()
        yield* eventually("its end is told", () => told.includes("end"))
      }
      // Those of others come and go.
      yield* eventually("their timers are gone", () => timers() < before + count / 2)
    })
  )
})
