/** Dials that are given up: nothing is left of the connection, however far it had come. */
import { createHash } from "node:crypto"
import { createServer, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import * as RelayLink from "../../src/client/RelayLink.js"
import * as WebSocketLink from "../../src/client/WebSocketLink.js"
import * as RelayClient from "../../src/remote/RelayClient.js"
import { RelayEndpoint } from "../../src/remote/RelayEndpoint.js"
import * as RelaySocket from "../../src/remote/RelaySocket.js"
import * as RelayTransport from "../../src/remote/RelayTransport.js"
import { Transport } from "../../src/transport/Transport.js"

/** One connection, as a server that never answers sees it. */
interface Silent {
  readonly url: string
  /** Completes when a request has come. */
  readonly asked: Effect.Effect<string>
  /** Completes when the client has closed the connection. */
  readonly closed: Effect.Effect<void>
  readonly socket: () => Socket | undefined
}

const silent: Effect.Effect<Silent, never, Scope.Scope> = Effect.gen(function* () {
  const asked = yield* Deferred.make<string>()
  const closed = yield* Deferred.make<void>()
  let last: Socket | undefined
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      createServer((socket) => {
        last = socket
        socket.on("error", () => {})
        socket.once("data", (data) => Deferred.unsafeDone(asked, Exit.succeed(data.toString("latin1"))))
        socket.once("close", () => Deferred.unsafeDone(closed, Exit.void))
      })
    ),
    (server) =>
      Effect.sync(() => {
        server.close()
        last?.destroy()
      })
  )
  yield* Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
  const address = server.address()
  return {
    url: `ws://127.0.0.1:${typeof address === "object" ? address?.port : 0}`,
    asked: Deferred.await(asked),
    closed: Effect.orDie(Effect.timeout(Deferred.await(closed), "5 seconds")),
    socket: () => last
  }
})

/** Answers the request for an upgrade, and leaves it at that. */
const upgrade = (socket: Socket | undefined, request: string) => {
  const key = /sec-websocket-key: (\S+)/i.exec(request)?.[1] ?? ""
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
  const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
  socket?.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join("\r\n")}\r\n\r\n`)
}

const events = { onMessage: () => {}, onBinary: () => {}, onMalformed: () => {}, onEnd: () => {} }

/** Calls back in the very turn in which a socket opens: every client pauses its socket then. */
const whenOpened = (onOpen: () => void) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { pause } = WebSocket.prototype
      let called = false
      WebSocket.prototype.pause = function () {
        pause.call(this)
        if (!called) onOpen()
        called = true
      }
      return pause
    }),
    (pause) =>
      Effect.sync(() => {
        WebSocket.prototype.pause = pause
      })
  )

type Dials = Readonly<Record<string, (url: string) => Effect.Effect<unknown, unknown, Scope.Scope>>>

/** Everything that dials, and closes what it has dialled with its scope. */
const owners: Dials = {
  "a relay's client": (url) => RelayClient.connect(url),
  "a client over a relay": (url) => RelayLink.open({ url: `${url}/?role=harness` })(events),
  "a WebSocket client": (url) => WebSocketLink.open({ url })(events),
  "an executor": (url) =>
    Effect.flatMap(Transport, ({ run }) => run(() => Effect.never)).pipe(
      Effect.provide(RelayTransport.layer),
      Effect.provide(Layer.succeed(RelayEndpoint, { url: Effect.succeed(url) }))
    )
}

describe("an interrupted dial", () => {
  const all: Dials = { ...owners, "a relay socket": (url) => RelaySocket.dial(url, { maxMessageBytes: 1000 }) }
  for (const [name, dial] of Object.entries(all)) {
    it.scopedLive(`${name}: is over at once, and its connection is closed`, () =>
      Effect.gen(function* () {
        const server = yield* silent
        const dialling = yield* Effect.fork(Effect.scoped(dial(server.url)))
        yield* server.asked
        const interrupted = yield* Effect.timeout(Fiber.interrupt(dialling), "2 seconds")
        assert.isTrue(Exit.isInterrupted(interrupted))
        yield* server.closed
      })
    )
  }

  for (const [name, dial] of Object.entries(owners)) {
    it.scopedLive(`${name}: that is interrupted in the turn in which it succeeds leaves nothing either`, () =>
      Effect.gen(function* () {
        for (let turns = 0; turns < 6; turns++) {
          const server = yield* silent
          const dialling = yield* Effect.fork(Effect.scoped(dial(server.url)))
          const request = yield* server.asked
          const interrupt = (turns: number) => {
            if (turns === 0) dialling.unsafeInterruptAsFork(FiberId.none)
            else queueMicrotask(() => interrupt(turns - 1))
          }
          yield* whenOpened(() => interrupt(turns))
          upgrade(server.socket(), request)
          yield* Fiber.await(dialling)
          yield* server.closed
        }
      })
    )
  }

  it.scopedLive("a client's own time limit is kept", () =>
    Effect.gen(function* () {
      for (const open of [RelayLink.open, WebSocketLink.open]) {
        const server = yield* silent
        const opened = open({ url: `${server.url}/?role=harness`, connectTimeout: 100 })(events)
        const failure = yield* Effect.timeout(Effect.flip(Effect.scoped(opened)), "2 seconds")
        assert.deepInclude(failure, { _tag: "ConnectTimeout", afterMs: 100 })
        yield* server.closed
      }
    })
  )
})
