/** What a server puts up with from connections that want nothing good. */
import { Buffer } from "node:buffer"
import { PassThrough } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { WebSocket } from "ws"
import * as ExecServer from "../../src/server/ExecServer.js"
import { maxPending } from "../../src/transport/PendingConnections.js"
import * as Stdio from "../../src/transport/Stdio.js"
import { exposed, exposedWithFake } from "../support/exposed.js"
import { serverLayer, settle } from "../support/fake.js"
import { answer, asks, ends, frame, upgrade } from "../support/raw.js"
import { connectTo, eventually, memoryClient, rawSocket } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"

const initialize = '{"id":1,"method":"initialize","params":{"clientName":"raw"}}'

describe("a connection that is not accepted in time", () => {
  it.scopedLive("is cut: whether it sends nothing, a part, or one byte after the other", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ session: { handshakeTimeoutMs: 300 } })
      const silent = yield* rawSocket(url)
      const partial = yield* rawSocket(url)
      partial.write("GET / HTTP/1.1\r\nHost: x\r\n")
      const slow = yield* rawSocket(url)
      slow.write("GET / HTTP/1.1\r\n")
      const drip = setInterval(() => slow.write("X: y\r\n"), 20)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(drip)))
      const upload = yield* rawSocket(url)
      upload.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
      for (const socket of [silent, partial, slow, upload]) yield* ends(socket)
    })
  )

  it.scopedLive("gives way to newer ones, so that those who come in good faith get in", () =>
    Effect.gen(function* () {
      const url = yield* exposed()
      const accepted = yield* connectTo(url)
      const [first, ...others] = yield* Effect.forEach(Array(maxPending + 5), () => rawSocket(url))
      if (first === undefined) return yield* Effect.dieMessage("no socket")
      yield* ends(first)
      yield* (yield* connectTo(url)).handshake()
      assert.strictEqual((yield* answer(`${url}/readyz`)).status, 200)
      yield* accepted.handshake()
      const alive = others.filter((socket) => !socket.destroyed).length
      assert.isAtMost(alive, maxPending)
      assert.isAtLeast(alive, maxPending - 5)
    })
  )
})

describe("a connection that does not initialize in time", () => {
  it.scopedLive("is closed with 1008 and the limit; one that does goes on", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ session: { handshakeTimeoutMs: 1500 } })
      const good = yield* connectTo(url)
      yield* good.handshake()
      const silent = yield* connectTo(url)
      const half = yield* connectTo(url)
      yield* half.ask("initialize", { clientName: "x" })
      const chatty = yield* connectTo(url)
      for (let i = 0; i < 100; i++) chatty.post("environment/status")
      for (const client of [silent, half, chatty]) {
        assert.deepStrictEqual(yield* client.ended(), {
          code: 1008,
          reason: "no `initialized` within handshakeTimeoutMs (1500)"
        })
      }
      assert.deepStrictEqual(yield* good.ask("environment/status"), { status: "ready" })
    })
  )

  it.scoped("has its time to the millisecond, and no limit afterwards", () =>
    Effect.gen(function* () {
      const late = yield* memoryClient
      const good = yield* memoryClient
      yield* settle
      yield* TestClock.adjust("9999 millis")
      yield* settle
      yield* good.handshake()
      assert.isUndefined(late.ending)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* late.ended()).code, 1008)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* good.ask("environment/status"), { status: "ready" })
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("has all the time on stdio", () =>
    Effect.gen(function* () {
      const input = new PassThrough()
      const output = new PassThrough()
      const transport = Stdio.layerStreams(input, output)
      const server = yield* Effect.forkScoped(Effect.provide(ExecServer.serve, Layer.merge(registryLayer(), transport)))
      yield* settle
      yield* TestClock.adjust("1 hour")
      input.end('{"id":1,"method":"nope"}\n')
      yield* Fiber.join(server)
      assert.include(String(output.read()), '"id":1')
    })
  )
})

describe("connections at a time", () => {
  it.scopedLive("are bounded: what is above gets 503 before the upgrade, until another one ends", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ transport: { maxConnections: 2 } })
      const first = yield* connectTo(url)
      const second = yield* connectTo(url)
      assert.strictEqual((yield* asks(yield* rawSocket(url), upgrade())).status, 503)
      assert.strictEqual((yield* answer(`${url}/readyz`)).status, 200)
      yield* second.handshake()
      first.carrier.close()
      yield* first.ended()
      const status = () =>
        Effect.scoped(Effect.flatMap(rawSocket(url), (socket) => asks(socket, upgrade()))).pipe(
          Effect.map(({ status }) => status)
        )
      yield* Effect.repeat(status(), { until: (status) => status === 101 }).pipe(Effect.timeout("20 seconds"))
    })
  )
})

describe("a peer that answers no pings", () => {
  it.scopedLive("is cut off after the third; one that answers, or sends anything else, is not", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ transport: { pingIntervalMs: 200 } })
      const answering = yield* connectTo(url)
      yield* answering.handshake()
      const talking = yield* rawSocket(url)
      yield* asks(talking, upgrade())
      talking.on("data", () => talking.write(frame(1, " ")))
      talking.write(frame(1, initialize))
      talking.write(frame(1, '{"method":"initialized"}'))
      const silent = yield* rawSocket(url)
      yield* asks(silent, upgrade())
      silent.write(frame(1, initialize))
      silent.write(frame(1, '{"method":"initialized"}'))
      const bytes = yield* ends(silent)
      assert.strictEqual(bytes.toString("latin1").split("\x89\x00").length - 1, 3)
      assert.isFalse(talking.destroyed)
      assert.deepStrictEqual(yield* answering.ask("environment/status"), { status: "ready" })
    })
  )

  it.scopedLive("but slowly takes what it is sent, is not cut off", () =>
    Effect.gen(function* () {
      const { url, fake } = yield* exposedWithFake({ transport: { pingIntervalMs: 500 } })
      const connect = Effect.acquireRelease(
        Effect.async<WebSocket>((resume) => {
          // What it takes is all that the server sees of it.
          const ws = new WebSocket(url, { autoPong: false, perMessageDeflate: false })
          ws.once("open", () => resume(Effect.succeed(ws)))
        }),
        (ws) => Effect.sync(() => ws.terminate())
      )
      const slow = yield* connect
      const silent = yield* connect
      for (const ws of [slow, silent]) {
        ws.send(initialize)
        ws.send('{"method":"initialized"}')
      }
      const params = { processId: "p", argv: ["program"], cwd: "/tmp", env: {}, tty: false }
      slow.send(JSON.stringify({ id: 2, method: "process/start", params }))
      let received = 0
      slow.on("message", (data: Buffer) => {
        received += data.length
        slow.pause()
        setTimeout(() => slow.resume(), 10)
      })
      yield* eventually("its process runs", () => fake.children[0]?.listening === true)
      // More than it takes, or the kernel for it, in the time of this test.
      for (let i = 0; i < 120; i++) fake.children[0]?.emit("stdout", Buffer.alloc(500_000))
      yield* eventually("the silent one is cut off", () => silent.readyState === WebSocket.CLOSED)
      // More than was on its way by then.
      const enough = received + 15_000_000
      yield* eventually("it has taken more", () => received > enough || slow.readyState === WebSocket.CLOSED, 30_000)
      assert.strictEqual(slow.readyState, WebSocket.OPEN)
    })
  )
})
