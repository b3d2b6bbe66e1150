/** TLS, proxies, and connections that are kept. */
import { createServer, type IncomingMessage, type Server } from "node:http"
import { type AddressInfo, createConnection, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { webSocketServer } from "../support/servers.js"
import {
  certificate,
  fetched,
  opened,
  rawUpstream,
  refused,
  secureUpstream,
  streamed,
  upstream,
  valuesOf
} from "../support/upstream.js"

/** A client of a server of its own, with these variables. */
const client = (env: Record<string, string> = {}) =>
  Effect.gen(function* () {
    const { connect } = yield* webSocketServer({ env })
    const connected = yield* connect
    yield* connected.handshake()
    return connected
  })

/** A proxy that knows one server: whatever is asked for, it leads there. */
const proxy = (target: number, answer = "HTTP/1.1 200 OK") =>
  Effect.acquireRelease(
    Effect.async<{
      readonly url: string
      readonly asked: Array<string>
      readonly server: Server
      sockets: Set<Socket>
    }>((resume) => {
      const asked: Array<string> = []
      const sockets = new Set<Socket>()
      const note = (request: IncomingMessage) =>
        asked.push(`${request.method} ${request.url} ${request.headers["proxy-authorization"] ?? "-"}`)
      const server = createServer((request, response) => {
        note(request)
        response.end("by proxy")
      })
      server.on("connection", (socket) => sockets.add(socket))
      server.on("connect", (request, socket) => {
        note(request)
        const upstream = createConnection(target, "127.0.0.1")
        sockets.add(upstream)
        for (const one of [socket, upstream]) one.on("error", () => {})
        socket.write(`${answer}\r\n\r\n`)
        socket.pipe(upstream).pipe(socket)
      })
      server.listen(0, "127.0.0.1", () => {
        const url = `http://us%C3%A9r:p@127.0.0.1:${(server.address() as AddressInfo).port}`
        resume(Effect.succeed({ url, asked, server, sockets }))
      })
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )

const authorization = `Basic ${Buffer.from("usér:p").toString("base64")}`

describe("TLS", () => {
  it.scopedLive("a certificate that is not trusted is refused with the reason, and one that is, is not", () =>
    Effect.gen(function* () {
      const { url, port } = yield* secureUpstream((response) => response.end("safe"))
      const wary = yield* client()
      const error = yield* refused(wary, url)
      assert.strictEqual(error.code, -32603)
      assert.strictEqual(
        error.message,
        `http/request failed: error sending request for url (${url}/): self-signed certificate`
      )
      const trusting = yield* client({ NODE_EXTRA_CA_CERTS: certificate })
      const local = `https://localhost:${port}/`
      assert.strictEqual((yield* fetched(trusting, local)).body, "safe")
      yield* opened(trusting, local)
      assert.strictEqual((yield* streamed(trusting)).body.toString(), "safe")
      // The certificate is for the host that is connected to, whatever a header says.
      const named = yield* refused(trusting, url, { headers: [{ name: "host", value: "upstream.test" }] })
      assert.match(named.message, /does not match certificate's altnames/)
    })
  )

  it.scopedLive("a server that speaks none", () =>
    Effect.gen(function* () {
      const { port } = yield* upstream((response) => response.end())
      const url = `https://127.0.0.1:${port}/`
      const error = yield* refused(yield* client(), url)
      assert.strictEqual(error.code, -32603)
      assert.include(error.message, `http/request failed: error sending request for url (${url}): `)
    })
  )
})

describe("a proxy", () => {
  it.scopedLive("gets requests for http, tunnels https, and is not asked for what is exempt", () =>
    Effect.gen(function* () {
      const secure = yield* secureUpstream((response) => response.end("through the tunnel"))
      const plain = yield* upstream((response) => response.end("straight"))
      const { url, asked } = yield* proxy(secure.port)
      const env = { HTTP_PROXY: url, https_proxy: url, NO_PROXY: "exempt.invalid", NODE_EXTRA_CA_CERTS: certificate }
      const connected = yield* client(env)
      assert.strictEqual((yield* fetched(connected, "http://upstream.test/a?b")).body, "by proxy")
      const headers = [
        { name: "x-a", value: "1" },
        { name: "x-a", value: "2" }
      ]
      for (let i = 0; i < 3; i++) {
        assert.strictEqual(
          (yield* fetched(connected, "https://upstream.test/", { headers })).body,
          "through the tunnel"
        )
      }
      assert.deepStrictEqual(asked, [
        `GET http://upstream.test/a?b ${authorization}`,
        `CONNECT upstream.test:443 ${authorization}`
      ])
      for (const one of secure.arrived) {
        assert.deepStrictEqual(valuesOf(one, "x-a"), ["1", "2"])
        assert.deepStrictEqual(valuesOf(one, "host"), ["upstream.test"])
        assert.deepStrictEqual(valuesOf(one, "proxy-authorization"), [])
      }
      assert.strictEqual((yield* fetched(connected, plain.url)).body, "straight")
      yield* refused(connected, "http://exempt.invalid/")
      assert.lengthOf(asked, 2)
    })
  )

  it.scopedLive("that refuses, or is none, is named in the failure", () =>
    Effect.gen(function* () {
      const refusing = yield* proxy(1, "HTTP/1.1 407 Proxy Authentication Required")
      for (const [https_proxy, reason] of [
        [refusing.url, ": the proxy answered 407"],
        ["http://127.0.0.1:1", ""],
        ["socks5://127.0.0.1:1", ": a proxy of the kind socks5 is not supported"],
        ["http://user:secret@:x", ": Invalid URL"]
      ]) {
        const error = yield* refused(yield* client({ https_proxy: `${https_proxy}` }), "https://upstream.test/")
        assert.deepStrictEqual(error, {
          code: -32603,
          message: `http/request failed: error sending request for url (https://upstream.test/)${reason}`
        })
      }
    })
  )
})

describe("a kept connection", () => {
  it.scopedLive("that turns out to be closed: what may be repeated is sent on another one", () =>
    Effect.gen(function* () {
      const first: Array<string> = []
      let connections = 0
      const answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
      const { url } = yield* rawUpstream((socket) => {
        connections++
        socket.write(answer)
        socket.once("data", (chunk) => {
          first.push(chunk.toString().split(" ", 1)[0] ?? "")
          socket.destroy()
        })
      })
      const connected = yield* client()
      assert.strictEqual((yield* fetched(connected, url)).body, "ok")
      assert.strictEqual((yield* fetched(connected, url)).body, "ok")
      assert.deepStrictEqual([first, connections], [["GET"], 2])
      const error = yield* refused(connected, url, { method: "POST", bodyBase64: "aGk=" })
      assert.strictEqual(error.message, `http/request failed: error sending request for url (${url}/)`)
      assert.deepStrictEqual([first, connections], [["GET", "POST"], 2])
    })
  )
})
