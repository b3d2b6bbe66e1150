/** Peers on a route of an application's own HTTP server, in this process. */
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import * as HttpUpgrade from "../../src/transport/HttpUpgrade.js"
import { TransportLimits } from "../../src/transport/TransportLimits.js"
import { asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { connectTo, eventually, rawSocket } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"
import { startParams } from "../support/TestClient.js"

/** Serves until the scope closes; gives the address of the route, what its children are made by, and how peers ended. */
const routed = (handshakeTimeoutMs = 10_000, pingIntervalMs = 60_000) =>
  Effect.gen(function* () {
    const limits = Layer.merge(
      Layer.succeed(SessionLimits, { ...(yield* SessionLimits), handshakeTimeoutMs }),
      Layer.succeed(TransportLimits, { ...(yield* TransportLimits), pingIntervalMs })
    )
    const exits: Array<Exit.Exit<unknown, unknown>> = []
    const handler = Effect.onExit(HttpUpgrade.serve, (exit) => Effect.sync(() => exits.push(exit)))
    const layer = HttpServer.serve(HttpRouter.empty.pipe(HttpRouter.get("/exec", handler))).pipe(
      Layer.provideMerge(registryLayer()),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
      Layer.provide(limits)
    )
    const built = yield* Layer.build(layer)
    const { address } = Context.get(built, HttpServer.HttpServer)
    if (address._tag !== "TcpAddress") return yield* Effect.dieMessage("it does not listen on a port")
    return { url: `ws://127.0.0.1:${address.port}/exec`, fake: Context.get(built, FakeSpawner), exits }
  })

const initialize = '{"id":1,"method":"initialize","params":{"clientName":"raw"}}'

describe("a peer on a route", () => {
  it.scopedLive("is heard from its first message, in order, also when they come with the request to upgrade", () =>
    Effect.gen(function* () {
      const { url } = yield* routed()
      const socket = yield* rawSocket(url)
      const texts = [initialize, ...[2, 3, 4].map((id) => JSON.stringify({ id, method: "nope" }))]
      socket.write(Buffer.concat([Buffer.from(upgrade("/exec")), ...texts.map((text) => frame(1, text))]))
      const bytes = yield* receives(socket, (all) => all.includes('"id":4'))
      const ids = Array.from(bytes.toString("latin1").matchAll(/"id":(-?\d)/g), ([, id]) => id)
      assert.deepStrictEqual(ids, ["1", "2", "3", "4"])
    })
  )

  it.scopedLive("takes messages in binary frames, the first one included", () =>
    Effect.gen(function* () {
      const socket = yield* rawSocket((yield* routed()).url)
      socket.write(Buffer.concat([Buffer.from(upgrade("/exec")), frame(2, initialize)]))
      const bytes = yield* receives(socket, (all) => all.includes('"id":1'))
      assert.include(bytes.toString("latin1"), '"result"')
    })
  )

  it.scopedLive("is told what is no text: its first message, and any later one", () =>
    Effect.gen(function* () {
      const socket = yield* rawSocket((yield* routed()).url)
      const noText = (id: number) =>
        Buffer.concat([Buffer.from(`{"id":${id},"method":"`), Buffer.from([0xff, 0x22, 0x7d])])
      socket.write(Buffer.concat([Buffer.from(upgrade("/exec")), frame(2, noText(1)), frame(2, noText(2))]))
      const malformed = "the binary frame is not valid UTF-8"
      const bytes = yield* receives(socket, (all) => all.toString("latin1").split(malformed).length > 2)
      assert.notMatch(bytes.toString("latin1"), /"id":\d/)
    })
  )

  it.scopedLive("ends its processes with its connection", () =>
    Effect.gen(function* () {
      const { url, fake } = yield* routed()
      const client = yield* connectTo(url)
      yield* client.handshake({})
      yield* client.ask("process/start", startParams("p", ["program"]))
      client.carrier.close()
      yield* client.ended()
      yield* eventually("its process is signalled", () => (fake.children[0]?.signals.length ?? 0) > 0)
    })
  )

  it.scopedLive("that says nothing is told to close when the time for the handshake is over", () =>
    Effect.gen(function* () {
      const { url, exits } = yield* routed(200)
      const silent = yield* rawSocket(url)
      assert.strictEqual((yield* asks(silent, upgrade("/exec"))).status, 101)
      const bytes = yield* receives(silent, (all) => all.length >= 2)
      assert.strictEqual(bytes[0], 0x88)
      yield* eventually("its route has ended", () => exits.length === 1)
      assert.isTrue(exits.every(Exit.isSuccess))
    })
  )

  it.scopedLive("that hangs up, before its first message or after it, is no failure of its route", () =>
    Effect.gen(function* () {
      const { url, exits } = yield* routed()
      const silent = yield* connectTo(url)
      silent.carrier.close()
      const client = yield* connectTo(url)
      yield* client.handshake()
      client.carrier.close()
      yield* eventually("both routes have ended", () => exits.length === 2)
      assert.isTrue(exits.every(Exit.isSuccess))
    })
  )

  it.scopedLive("that answers no pings is cut off, named by its address until then", () =>
    Effect.gen(function* () {
      const { url } = yield* routed(10_000, 100)
      const silent = yield* rawSocket(url)
      yield* asks(silent, upgrade("/exec"))
      const { localPort } = silent
      silent.write(frame(1, "{"))
      silent.write(frame(1, initialize))
      silent.write(frame(1, '{"method":"initialized"}'))
      const bytes = yield* ends(silent)
      assert.include(bytes.toString("latin1"), `exec-server websocket 127.0.0.1:${localPort}`)
    })
  )
})
