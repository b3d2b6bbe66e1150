/** Where a server listens, why it cannot, and what its end leaves. */
import { createConnection } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Listener from "../../src/transport/Listener.js"
import { folder } from "../support/exposed.js"
import { answer, ends } from "../support/raw.js"
import { rawSocket } from "../support/servers.js"

const options: Listener.Options = {
  acceptWithinMs: 60_000,
  onRequest: (_request, response) => response.end("hello")
}

const on = (host: string, port = 0) => Listener.listen({ host, port }, options)

/** Why nobody can listen there. */
const whyNot = (host: string, port: number) =>
  Effect.map(Effect.flip(Effect.scoped(on(host, port))), ({ message }) => message)

/** What connecting to a port of this machine leads to. */
const connecting = (port: number) =>
  Effect.async<string>((resume) => {
    const socket = createConnection({ host: "127.0.0.1", port })
    socket.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? "")))
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed("connected"))
    })
  })

describe("a listener", () => {
  it.scopedLive("says where it is found: on a free port, of IPv6 in brackets, or on a path", () =>
    Effect.gen(function* () {
      const { url } = yield* on("127.0.0.1")
      assert.match(url, /^ws:\/\/127\.0\.0\.1:[1-9]\d*$/)
      assert.strictEqual((yield* answer(url)).body, "hello")
      assert.match((yield* on("::1")).url, /^ws:\/\/\[::1\]:[1-9]\d*$/)
      const path = join(yield* folder, "socket")
      assert.strictEqual((yield* Listener.listen({ path }, options)).url, `unix://${path}`)
    })
  )

  it.scopedLive("that cannot listen says where, and why", () =>
    Effect.gen(function* () {
      const port = Number(new URL((yield* on("127.0.0.1")).url).port)
      assert.strictEqual(
        yield* whyNot("127.0.0.1", port),
        `cannot listen on ws://127.0.0.1:${port}: the port is in use; choose another one, or 0 for any free one`
      )
      // An address of documentation, which no machine has.
      assert.strictEqual(
        yield* whyNot("192.0.2.1", 8080),
        "cannot listen on ws://192.0.2.1:8080: this machine has no such address"
      )
    })
  )

  it.scopedLive("that cannot listen for a reason of its own passes on that of the system", () =>
    Effect.gen(function* () {
      // A link-local address without the interface that it belongs to.
      const text = yield* whyNot("fe80::1", 8080)
      assert.match(text, /^cannot listen on ws:\/\/\[fe80::1\]:8080: listen EINVAL/)
    })
  )

  it.scopedLive("has no time limits but its own", () =>
    Effect.gen(function* () {
      const { server } = yield* on("127.0.0.1")
      assert.deepStrictEqual([server.headersTimeout, server.requestTimeout], [0, 0])
    })
  )

  it.scopedLive("goes on after an error that concerns one connection", () =>
    Effect.gen(function* () {
      const { server, url } = yield* on("127.0.0.1")
      server.emit("error", new Error("accept EMFILE"))
      server.emit("error", new Error("accept EMFILE"))
      assert.strictEqual((yield* answer(url)).body, "hello")
    })
  )

  it.scopedLive("cuts its connections when it ends, and leaves the port free", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { url } = yield* Scope.extend(on("127.0.0.1"), scope)
      const socket = yield* rawSocket(url)
      const port = Number(new URL(url).port)
      assert.strictEqual(yield* connecting(port), "connected")
      socket.write("GET / HTTP/1.1\r\n")
      yield* Scope.close(scope, Exit.void)
      yield* ends(socket)
      assert.strictEqual(yield* connecting(port), "ECONNREFUSED")
    })
  )
})
