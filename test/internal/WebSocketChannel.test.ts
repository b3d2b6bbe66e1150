/** An open WebSocket whose other side is a bare socket: when it is given up, what it writes, how it ends. */
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import { type Heartbeat, WebSocketChannel } from "../../src/internal/WebSocketChannel.js"
import { fill } from "../support/fake.js"
import { asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { eventually, rawSocket } from "../support/servers.js"

const intervalMs = 100

/** A channel, its peer's socket, and what the channel reported. */
const opened = (heartbeat: Partial<Heartbeat> = {}) =>
  Effect.gen(function* () {
    const told: Array<string> = []
    let channel: WebSocketChannel | undefined
    const server = yield* Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>>((resume) => {
        const http = createServer()
        new WebSocketServer({ server: http }).on("connection", (ws, { socket }) => {
          channel = new WebSocketChannel(ws, socket, {
            intervalMs,
            maxUnanswered: 2,
            countsWhilePaused: false,
            onSilent: () => told.push("silent"),
            ...heartbeat
          })
          ws.on("message", (data) => told.push(String(data)))
          channel.onceClosed((code) => told.push(`closed ${code}`))
        })
        http.listen(0, "127.0.0.1", () => resume(Effect.succeed(http)))
      }),
      (http) =>
        Effect.sync(() => {
          http.close()
          http.closeAllConnections()
        })
    )
    const peer = yield* rawSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
    yield* asks(peer, upgrade())
    if (channel === undefined) return yield* Effect.dieMessage("nobody was accepted")
    return { channel, peer, told }
  })

const pingFrame = "\x89\x00"
const pings = (bytes: Buffer) => bytes.toString("latin1").split(pingFrame).length - 1

describe("a peer that is silent", () => {
  it.scopedLive("gets so many pings, and is given up when it has answered none", () =>
    Effect.gen(function* () {
      const { peer, told } = yield* opened()
      assert.strictEqual(pings(yield* ends(peer)), 2)
      yield* eventually("the end is told", () => told.length === 2)
      assert.deepStrictEqual(told, ["silent", "closed 1006"])
    })
  )

  it.scopedLive("is not given up while it says anything", () =>
    Effect.gen(function* () {
      const { peer, told } = yield* opened()
      peer.on("data", () => peer.write(frame(1, "!")))
      yield* receives(peer, (bytes) => pings(bytes) === 6)
      assert.notInclude(told, "silent")
    })
  )

  it.scopedLive("is not given up while it is not read, and has its time afterwards", () =>
    Effect.gen(function* () {
      const { channel, peer, told } = yield* opened()
      channel.pause()
      yield* receives(peer, (bytes) => pings(bytes) === 6)
      assert.deepStrictEqual(told, [])
      channel.resume()
      assert.strictEqual(pings(yield* ends(peer)), 2)
    })
  )

  it.scopedLive("is given up while it is not read if it takes nothing either, where that counts", () =>
    Effect.gen(function* () {
      const patient = yield* opened({ countsWhilePaused: false, maxUnanswered: 1 })
      const strict = yield* opened({ countsWhilePaused: true })
      for (const { channel, peer } of [patient, strict]) {
        peer.pause()
        channel.pause()
        // More than the kernel takes for it.
        channel.send(fill(30_000_000))
      }
      yield* eventually("its end is told", () => strict.told.includes("silent"))
      // The other one has had as many beats, and was allowed fewer pings.
      assert.deepStrictEqual(patient.told, [])
    })
  )

  it.scopedLive("is given the time that this process did not have", () =>
    Effect.gen(function* () {
      const { channel, peer } = yield* opened({ maxUnanswered: 1 })
      yield* receives(peer, (bytes) => pings(bytes) === 1)
      // Answered in time, and not read in time: the event loop stands still.
      peer.write(frame(10, ""))
      const until = performance.now() + 4 * intervalMs
      while (performance.now() < until);
      yield* receives(peer, (bytes) => pings(bytes) === 1)
      assert.isFalse(channel.socket.destroyed)
    })
  )
})

describe("a peer that is asked whether it is there", () => {
  const probe = (channel: WebSocketChannel) =>
    Effect.async<boolean>((resume) => channel.probe(300, (isAlive) => resume(Effect.succeed(isAlive))))

  it.scopedLive("is, if it says anything, and is not, if it says nothing or ends", () =>
    Effect.gen(function* () {
      const quiet = { intervalMs: 60_000 }
      const answering = yield* opened(quiet)
      answering.peer.on("data", () => answering.peer.write(frame(10, "")))
      assert.isTrue(yield* probe(answering.channel))
      const silent = yield* opened(quiet)
      assert.isFalse(yield* probe(silent.channel))
      const ending = yield* opened(quiet)
      ending.peer.on("data", () => ending.peer.destroy())
      assert.isFalse(yield* probe(ending.channel))
      assert.isFalse(yield* probe(ending.channel))
      // Its answer could not be heard.
      const paused = yield* opened(quiet)
      paused.channel.pause()
      assert.isTrue(yield* probe(paused.channel))
    })
  )

  it.scopedLive("is known to be, or not to be, as soon as it says something or ends, and once", () =>
    Effect.gen(function* () {
      const quiet = { intervalMs: 60_000 }
      const answers: Array<boolean> = []
      const ask = (channel: WebSocketChannel) => channel.probe(60_000, (isAlive) => answers.push(isAlive))
      const answering = yield* opened(quiet)
      answering.peer.on("data", () => answering.peer.write(frame(1, "x")))
      ask(answering.channel)
      yield* eventually("it has answered", () => answers.length === 1)
      const ending = yield* opened(quiet)
      ending.peer.on("data", () => ending.peer.destroy())
      ask(ending.channel)
      yield* eventually("it has ended", () => answers.length === 2)
      // One that is gone is not asked.
      ask(ending.channel)
      assert.deepStrictEqual(answers, [true, false, false])
      answering.peer.destroy()
      yield* eventually("it is gone", () => answering.told.includes("closed 1006"))
      assert.lengthOf(answers, 3)
    })
  )

  it.scopedLive(
    "is not, where it is not read and takes nothing, if that counts; else nothing can be learnt of it",
    () =>
      Effect.gen(function* () {
        for (const countsWhilePaused of [false, true]) {
          const { channel, peer } = yield* opened({ intervalMs: 60_000, countsWhilePaused })
          peer.pause()
          channel.pause()
          // More than the kernel takes for it.
          channel.send(fill(30_000_000))
          assert.strictEqual(yield* probe(channel), !countsWhilePaused)
        }
      })
  )

  it.scopedLive("was silent only if nothing has come since the last ping", () =>
    Effect.gen(function* () {
      const { channel, peer } = yield* opened({ maxUnanswered: 1000 })
      assert.isFalse(channel.isSilent)
      yield* receives(peer, (bytes) => pings(bytes) === 2)
      assert.isTrue(channel.isSilent)
      peer.write(frame(10, ""))
      yield* eventually("it is heard", () => !channel.isSilent)
    })
  )
})

describe("an open WebSocket", () => {
  it.scopedLive("writes what is sent in one turn in one system call", () =>
    Effect.gen(function* () {
      const { channel, peer } = yield* opened({ intervalMs: 60_000 })
      const { socket } = channel
      let batches = 0
      const { _writev } = socket
      socket._writev = (chunks, done) => {
        batches++
        _writev?.call(socket, chunks, done)
      }
      for (const text of ["a", "b", "c"]) channel.send(text)
      assert.isAbove(channel.buffered, 0)
      const bytes = yield* receives(peer, (all) => all.length >= 9)
      assert.strictEqual(bytes.toString("latin1"), "\x81\x01a\x81\x01b\x81\x01c")
      assert.strictEqual(batches, 1)
    })
  )

  it.scopedLive("says as many whole characters of a reason as a close frame holds", () =>
    Effect.gen(function* () {
      for (const [reason, expected] of [
        ["x".repeat(124), "x".repeat(123)],
        ["é".repeat(62), "é".repeat(61)],
        [`${"x".repeat(120)}😀`, "x".repeat(120)]
      ] as const) {
        const { channel, peer } = yield* opened({ intervalMs: 60_000 })
        channel.close(1001, reason)
        const length = 2 + Buffer.byteLength(expected)
        const bytes = yield* receives(peer, (all) => all.length >= 2 + length)
        assert.deepStrictEqual(
          bytes,
          Buffer.concat([Buffer.from([0x88, length, 1001 >> 8, 1001 & 0xff]), Buffer.from(expected)])
        )
      }
    })
  )

  it.scopedLive("hears the answer to its close frame also where it did not read, and ends without one", () =>
    Effect.gen(function* () {
      const answering = yield* opened({ intervalMs: 60_000 })
      answering.channel.pause()
      answering.channel.close(1000, "")
      answering.peer.write(frame(8, Buffer.from([0x03, 0xe8])))
      yield* eventually("its end is told", () => answering.told.includes("closed 1000"))
      const silent = yield* opened({ intervalMs: 60_000 })
      silent.channel.close(1000, "")
      yield* eventually("its end is told", () => silent.told.includes("closed 1006"))
      let again: number | undefined
      silent.channel.onceClosed((code) => {
        again = code
      })
      assert.strictEqual(again, 1006)
    })
  )
})
