/** Connections of which one end is gone and the other one has not heard of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { swallowingProxy } from "../support/proxy.js"
import { ends, upgrade } from "../support/raw.js"
import { connectTo, descriptors, eventually, rawSocket, webSocketServer } from "../support/servers.js"

describe("half-open connections", () => {
  it.scopedLive("a client behind a dead network is cut off after some pings, and its session can be resumed", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--ping-interval-ms", "200"] })
      const proxy = yield* swallowingProxy(server.url)
      const lost = yield* connectTo(proxy.url)
      const { sessionId } = yield* lost.handshake({ resumeSessionId: null })
      yield* lost.start("p", ["cat"], { pipeStdin: true })
      yield* proxy.swallow
      const client = yield* connectTo(server.url)
      const params = { clientName: "again", resumeSessionId: sessionId }
      yield* Effect.repeat(client.call("initialize", params), {
        until: ({ error }) => error === undefined
      }).pipe(Effect.timeout("20 seconds"))
      client.raw('{"method":"initialized"}')
      client.knows("p")
      yield* client.ask("process/write", { processId: "p", chunk: "aGVsbG8K", writeId: "w" })
      yield* client.sees("p", "hello")
      yield* client.ask("process/terminate", { processId: "p" })
      yield* client.closed("p")
    })
  )

  it.scopedLive("its session is resumed as soon as it has left one ping unanswered", () =>
    Effect.gen(function* () {
      // Without a resumption it is given up after four of these.
      const server = yield* webSocketServer({ args: ["--ping-interval-ms", "4000"] })
      const proxy = yield* swallowingProxy(server.url)
      const lost = yield* connectTo(proxy.url)
      const { sessionId } = yield* lost.handshake({ resumeSessionId: null })
      yield* proxy.swallow
      const client = yield* connectTo(server.url)
      const params = { clientName: "again", resumeSessionId: sessionId }
      assert.strictEqual((yield* client.call("initialize", params)).error.code, -32010)
      const again = client.call("initialize", params).pipe(Effect.delay("100 millis"))
      yield* Effect.repeat(again, { until: ({ error }) => error === undefined }).pipe(Effect.timeout("20 seconds"))
    })
  )

  it.scopedLive("the same with output that nobody takes", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--ping-interval-ms", "200", "--detached-session-ttl-ms", "100"] })
      const observer = yield* server.connect
      yield* observer.handshake()
      // The first process brings what is opened once.
      yield* observer.start("first", ["true"])
      yield* observer.closed("first")
      const before = descriptors(server.pid)
      const proxy = yield* swallowingProxy(server.url)
      const lost = yield* connectTo(proxy.url)
      lost.discard = true
      yield* lost.handshake({ resumeSessionId: null })
      yield* lost.start("p", ["sh", "-c", "while :; do echo y; sleep 0.1; done"])
      yield* proxy.swallow
      yield* eventually("it is cut off, and its process ended", () => descriptors(server.pid) <= before, 30_000)
    })
  )

  it.scopedLive("a client that has said its last word and keeps its socket open is not kept", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const before = descriptors(server.pid)
      const sockets = yield* Effect.forEach(Array(10), () => rawSocket(server.url))
      for (const socket of sockets) {
        socket.write(upgrade())
        socket.end()
      }
      for (const socket of sockets) yield* ends(socket)
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
    })
  )
})
