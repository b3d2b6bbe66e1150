/** The WebSocket transport from the outside: raw bytes on real sockets, and what HTTP says. */
import { createConnection } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Grant } from "../../src/session/Grant.js"
import { Authenticator } from "../../src/transport/Authenticator.js"
import { MetricsPage } from "../../src/transport/MetricsPage.js"
import { Transport } from "../../src/transport/Transport.js"
import * as WebSocket from "../../src/transport/WebSocket.js"
import { type ExposedOptions, exposed } from "../support/exposed.js"
import { settle } from "../support/fake.js"
import { answer, asks, frame, receives, upgrade } from "../support/raw.js"
import { connectTo, eventually, rawSocket } from "../support/servers.js"

/** A server of fake children in this process. */
const server = (options: ExposedOptions = {}) =>
  Effect.map(exposed(options), (url) => ({ url, connect: connectTo(url) }))

const connected = Effect.gen(function* () {
  const { url } = yield* server()
  const socket = yield* rawSocket(url)
  socket.write(upgrade("/?query=allowed"))
  const head = yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
  assert.match(head.toString(), /^HTTP\/1\.1 101 /)
  assert.notMatch(head.toString(), /permessage-deflate/i)
  return socket
})

describe("WebSocket transport", () => {
  it.scopedLive("HTTP: health, paths, methods, Origin", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      assert.deepStrictEqual(yield* answer(`${url}/readyz`, "GET"), { status: 200, body: "" })
      assert.strictEqual((yield* answer(`${url}/readyz`, "POST")).status, 405)
      assert.strictEqual((yield* answer(`${url}/other`, "GET")).status, 404)
      const plain = yield* answer(`${url}/`, "GET")
      assert.deepStrictEqual(plain, { status: 400, body: "Connection header did not include 'upgrade'" })
      const typeOf = (path: string) =>
        Effect.flatMap(rawSocket(url), (socket) =>
          asks(socket, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
        ).pipe(Effect.map(({ text }) => /content-type: (.*)\r\n/i.exec(text)?.[1]))
      assert.strictEqual(yield* typeOf("/"), "text/plain")
      assert.isUndefined(yield* typeOf("/other"))
      for (const origin of ["null", "http://127.0.0.1", url]) {
        assert.strictEqual((yield* answer(`${url}/readyz`, "GET", { origin })).status, 403)
      }
      for (const path of ["/readyz", "/livez", "/other"]) {
        const { text } = yield* asks(yield* rawSocket(url), `GET ${path} HTTP/1.1\r\nHost: evil.example\r\n\r\n`)
        assert.match(text, /^HTTP\/1\.1 403 /)
      }
      for (const [head, status] of [
        [upgrade("/other"), 404],
        [upgrade("/", "Origin: http://evil.example\r\n"), 403]
      ] as const) {
        const socket = yield* rawSocket(url)
        socket.write(head)
        const reply = yield* receives(socket, () => false)
        assert.match(reply.toString(), new RegExp(`^HTTP/1\\.1 ${status} `))
      }
    })
  )

  it.scopedLive("a refused upgrade whose peer resets the connection harms nobody", () =>
    Effect.gen(function* () {
      const { connect, url } = yield* server()
      for (let i = 0; i < 60; i++) {
        const socket = yield* rawSocket(url)
        socket.write(upgrade(i % 2 === 0 ? "/other" : "/", "Origin: http://evil.example\r\n"))
        yield* Effect.yieldNow()
        socket.resetAndDestroy()
      }
      yield* (yield* connect).handshake()
    })
  )

  it.scopedLive("a page of metrics is read like one, and is not there without", () =>
    Effect.gen(function* () {
      const page = Layer.succeed(MetricsPage, { contentType: "text/example", render: Effect.succeed("one 1") })
      const url = yield* exposed({ auth: page })
      assert.deepStrictEqual(yield* answer(`${url}/metrics?query`), { status: 200, body: "one 1" })
      assert.deepStrictEqual(yield* answer(`${url}/metrics`, "HEAD"), { status: 200, body: "" })
      assert.strictEqual((yield* answer(`${url}/metrics`, "POST")).status, 405)
      assert.strictEqual((yield* answer(`${url}/other`)).status, 404)
      const { text } = yield* asks(yield* rawSocket(url), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.match(text, /content-type: text\/example\r\n/)
      assert.strictEqual((yield* answer(`${yield* exposed()}/metrics`)).status, 404)
    })
  )

  it.scopedLive("a page of metrics is not for a grant that is limited to one session", () =>
    Effect.gen(function* () {
      const page = Layer.succeed(MetricsPage, { contentType: "text/example", render: Effect.succeed("one 1") })
      const statusWith = (scope?: Grant["scope"]) => {
        const authenticate = () => Effect.succeed<Grant>({ id: "someone", role: "viewer", scope })
        const authenticator = Layer.succeed(Authenticator, { authenticate })
        return Effect.flatMap(exposed({ auth: Layer.merge(page, authenticator) }), (url) =>
          Effect.map(answer(`${url}/metrics`), ({ status }) => status)
        )
      }
      assert.strictEqual(yield* statusWith(), 200)
      assert.strictEqual(yield* statusWith({ session: "s-1" }), 403)
    })
  )

  it.scopedLive("while nobody serves, before and after, it lives, is not ready, and takes nobody", () =>
    Effect.gen(function* () {
      const { address: url, run } = Context.get(
        yield* Layer.build(WebSocket.layer({ host: "127.0.0.1", port: 0 })),
        Transport
      )
      const states = Effect.all([
        Effect.map(answer(`${url}/livez`), ({ status }) => status),
        Effect.map(answer(`${url}/readyz`), ({ status }) => status),
        Effect.map(
          Effect.scoped(Effect.flatMap(rawSocket(url), (socket) => asks(socket, upgrade()))),
          ({ status }) => status
        )
      ])
      assert.deepStrictEqual(yield* states, [200, 503, 503])
      const serving = yield* Effect.fork(run(() => Effect.never))
      yield* settle
      assert.deepStrictEqual(yield* states, [200, 200, 101])
      yield* Fiber.interrupt(serving)
      assert.deepStrictEqual(yield* states, [200, 503, 503])
    })
  )

  it.scopedLive("the end of the server waits for the answer to its close frame", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const url = yield* Scope.extend(exposed(), scope)
      const socket = yield* rawSocket(url)
      yield* asks(socket, upgrade())
      const ending = yield* Effect.fork(Scope.close(scope, Exit.void))
      const close = yield* receives(socket, (bytes) => bytes.length >= 4)
      assert.deepStrictEqual(close.subarray(0, 4), Buffer.from([0x88, close.length - 2, 1001 >> 8, 1001 & 0xff]))
      for (let turn = 0; turn < 20; turn++) yield* settle
      assert.isTrue(Option.isNone(yield* Fiber.poll(ending)))
      socket.write(frame(8, Buffer.from([1001 >> 8, 1001 & 0xff])))
      yield* Fiber.join(ending)
    })
  )

  it.scopedLive("who was refused is let go, though it does not hang up itself", () =>
    Effect.gen(function* () {
      const { port } = new URL(yield* exposed({ session: { handshakeTimeoutMs: 60_000 } }))
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => createConnection({ host: "127.0.0.1", port: Number(port), allowHalfOpen: true })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      socket.on("error", () => {})
      assert.strictEqual((yield* asks(socket, upgrade("/other"))).status, 404)
      // Whoever is there still takes it; whoever has let go resets the connection.
      yield* eventually("it is let go", () => {
        socket.write("x")
        return socket.closed
      })
    })
  )

  it.scopedLive("an offer of compression is not taken up", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const socket = yield* rawSocket(url)
      socket.write(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
      const head = yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
      assert.notMatch(head.toString(), /permessage-deflate/i)
    })
  )

  it.scopedLive("fragments, pings between them, and JSON in a binary frame", () =>
    Effect.gen(function* () {
      const socket = yield* connected
      socket.write(frame(1, '{"id":1,"method":"initialize",', false))
      socket.write(frame(9, "ping"))
      socket.write(frame(0, '"params":{"clientName":"raw"}}'))
      const bytes = yield* receives(socket, (all) => all.includes('"id":1'))
      // A pong with the ping's payload, then the answer as a text frame.
      assert.deepStrictEqual(bytes.subarray(0, 6), Buffer.from([0x8a, 4, ...Buffer.from("ping")]))
      assert.strictEqual(bytes[6], 0x81)
      socket.write(frame(2, '{"id":2,"method":"nope"}'))
      const second = yield* receives(socket, (all) => all.includes('"id":2'))
      assert.strictEqual(second[0], 0x81)
      socket.write(frame(2, Buffer.from([0xff, 0xfe])))
      const third = yield* receives(socket, (all) => all.includes('"id":-1'))
      assert.include(
        third.toString(),
        "failed to parse websocket JSON-RPC message from exec-server websocket 127.0.0.1:"
      )
    })
  )

  it.scopedLive("blank frames are malformed messages", () =>
    Effect.gen(function* () {
      const socket = yield* connected
      for (const blank of ["", "  \n"]) {
        socket.write(frame(1, blank))
        const bytes = yield* receives(socket, (all) => all.includes('"id":-1'))
        assert.include(bytes.toString(), "EOF while parsing a value")
      }
    })
  )

  for (const [what, bytes, code] of [
    ["an unmasked frame", Buffer.from([0x81, 1, 0x78]), 1002],
    ["a reserved opcode", frame(3, "x"), 1002],
    ["a text frame that is not UTF-8", frame(1, Buffer.from([0xff])), 1007]
  ] as const) {
    it.scopedLive(`${what} is answered with close ${code}`, () =>
      Effect.gen(function* () {
        const socket = yield* connected
        socket.write(bytes)
        const reply = yield* receives(socket, (all) => all.length >= 4)
        assert.strictEqual(reply[0], 0x88)
        assert.strictEqual(reply.readUInt16BE(2), code)
      })
    )
  }

  it.scopedLive("a connection without a handshake is closed with 1008", () =>
    Effect.gen(function* () {
      const client = yield* (yield* server({ session: { handshakeTimeoutMs: 300 } })).connect
      assert.strictEqual((yield* client.ended()).code, 1008)
    })
  )

  it.scopedLive("a message above maxMessageBytes is answered with close 1009", () =>
    Effect.gen(function* () {
      const { connect } = yield* server({ transport: { maxMessageBytes: 1000 } })
      const client = yield* connect
      client.raw("x".repeat(1001))
      assert.strictEqual((yield* client.ended()).code, 1009)
    })
  )

  it.scopedLive("17 MiB in one frame pass", () =>
    Effect.gen(function* () {
      const client = yield* (yield* server()).connect
      client.raw(JSON.stringify({ id: 1, method: "nope", params: "x".repeat(17 * 2 ** 20) }))
      assert.strictEqual((yield* client.reply(1)).error.code, -32601)
    })
  )

  it.scopedLive("a clean close is answered with 1000, a violation with 1002 and its reason", () =>
    Effect.gen(function* () {
      const { connect } = yield* server()
      const first = yield* connect
      first.carrier.close()
      assert.strictEqual((yield* first.ended()).code, 1000)
      const second = yield* connect
      second.raw('{"method":"nope"}')
      assert.deepStrictEqual(yield* second.ended(), { code: 1002, reason: "unexpected notification method: nope" })
      const third = yield* connect
      third.raw(`{"method":"${"é".repeat(500)}"}`)
      const { code, reason } = yield* third.ended()
      assert.strictEqual(code, 1002)
      assert.match(reason, /^unexpected notification method: é+$/)
    })
  )
})
