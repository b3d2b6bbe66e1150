/** `http/request` over real sockets: what arrives at an HTTP server, and what comes back. */
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { defaults, HttpLimits } from "../../src/http/HttpLimits.js"
import { eventually, memoryClient, memoryLayer, stdioClient, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"
import {
  deltas,
  fetched,
  httpParams,
  opened,
  rawUpstream,
  refused,
  streamed,
  upstream,
  valuesOf
} from "../support/upstream.js"

type Connect = Effect.Effect<TestClient, never, Scope.Scope>
type Body = (client: TestClient) => Effect.Effect<unknown, unknown, Scope.Scope>

const memory: Connect = Effect.flatMap(Layer.build(memoryLayer), (context) => Effect.provide(memoryClient, context))
const stdio: Connect = Effect.map(stdioClient(), ({ client }) => client)
const webSocket: Connect = Effect.flatMap(webSocketServer(), ({ connect }) => connect)

const on = (connect: Connect) => (title: string, body: Body) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      const client = yield* connect
      yield* client.handshake()
      yield* body(client)
    })
  )

const test = on(memory)

const sending = (url: string) => `http/request failed: error sending request for url (${url})`
const broken = "error decoding response body"

/** Answers `hello`, with headers of its own. */
const hello = upstream((response) => {
  response.sendDate = false
  response.writeHead(201, ["X-A", "1", "x-b", "b", "X-A", "2", "Latin", "\xe9", "Content-Length", "5"])
  response.end("hello")
})

/** Never answers. */
const silent = upstream(() => {})

/** Answers with the beginning of a body that does not go on. */
const stuck = upstream((response) => {
  response.writeHead(200, { "content-length": 100 })
  response.write("part")
})

for (const [name, connect] of [
  ["memory", memory],
  ["stdio", stdio],
  ["WebSocket", webSocket]
] as const) {
  describe(name, () => {
    on(connect)("a response is given whole, or in pieces after its headers", (client) =>
      Effect.gen(function* () {
        const { url } = yield* hello
        const headers = [
          { name: "x-a", value: "1" },
          { name: "x-b", value: "b" },
          { name: "x-a", value: "2" },
          { name: "content-length", value: "5" },
          { name: "connection", value: "keep-alive" },
          { name: "keep-alive", value: "timeout=5" }
        ]
        assert.deepStrictEqual(yield* fetched(client, url), { status: 201, headers, body: "hello" })
        assert.deepStrictEqual(yield* opened(client, url), { status: 201, headers, bodyBase64: "" })
        assert.deepStrictEqual(yield* streamed(client), { body: Buffer.from("hello"), error: null })
      })
    )

    on(connect)("the handshake comes first", () =>
      Effect.gen(function* () {
        const client = yield* connect
        const before = yield* client.call("http/request", httpParams("http://127.0.0.1:1/"))
        assert.deepStrictEqual(before.error, {
          code: -32600,
          message: "client must call initialize before using http methods"
        })
        yield* client.ask("initialize", { clientName: "x" })
        const between = yield* client.call("http/request", httpParams("http://127.0.0.1:1/"))
        assert.strictEqual(between.error.message, "client must send initialized before using http methods")
      })
    )
  })
}

describe("what is sent", () => {
  test("is what was asked for, and little else", (client) =>
    Effect.gen(function* () {
      const server = yield* hello
      const headers = [
        { name: "X-A", value: "1" },
        { name: "x-B", value: "é" },
        { name: "X-A", value: "2" }
      ]
      yield* fetched(client, `${server.url}/a?b=c#d`, { headers })
      yield* fetched(client, server.url, { method: "POST", bodyBase64: "aGk=" })
      yield* fetched(client, server.url, { bodyBase64: null, headers: [], timeoutMs: null, streamResponse: false })
      yield* fetched(client, server.url, { method: "DELETE", headers: [{ name: "Host", value: "other.test" }] })
      const host = `127.0.0.1:${server.port}`
      const accept = ["accept", "*/*"]
      assert.deepStrictEqual(server.arrived, [
        {
          method: "GET",
          url: "/a?b=c",
          headers: ["x-a", "1", "x-a", "2", "x-b", Buffer.from("é").toString("latin1"), ...accept, "host", host],
          body: ""
        },
        { method: "POST", url: "/", headers: [...accept, "host", host, "content-length", "2"], body: "hi" },
        { method: "GET", url: "/", headers: [...accept, "host", host], body: "" },
        { method: "DELETE", url: "/", headers: ["host", "other.test", ...accept], body: "" }
      ])
      assert.strictEqual(server.connections(), 1, "the connection is kept")
    }))

  test("a method keeps its case, so that servers may refuse it", (client) =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const server = yield* rawUpstream((socket) => socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"))
      const seen = yield* upstream((response, { method }) => {
        lines.push(method)
        response.end()
      })
      assert.strictEqual((yield* fetched(client, seen.url, { method: "get" })).status, 400)
      assert.strictEqual((yield* fetched(client, seen.url, { method: "PROPFIND" })).status, 200)
      assert.deepStrictEqual(lines, ["PROPFIND"])
      assert.deepStrictEqual(yield* fetched(client, server.url), {
        status: 400,
        headers: [{ name: "connection", value: "close" }],
        body: ""
      })
    }))

  test("a header may take its value from the server's environment, and the client never sees it", (client) =>
    Effect.gen(function* () {
      const name = "TEST_UPSTREAM_TOKEN"
      process.env[name] = "s3cret"
      yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env[name]))
      const server = yield* hello
      const headers = [{ name: "authorization", value: "Bearer ", valueEnvVar: name }]
      yield* fetched(client, server.url, { headers })
      assert.deepStrictEqual(
        server.arrived.map((one) => valuesOf(one, "authorization")),
        [["Bearer s3cret"]]
      )
      assert.notInclude(JSON.stringify(client.messages), "s3cret")
      const { environmentInfo } = client.messages[0].result
      assert.deepInclude(environmentInfo.capabilities, { httpHeaderEnvVars: true })
    }))
})

describe("what comes back", () => {
  test("any status is a result, with or without a body", (client) =>
    Effect.gen(function* () {
      const { url } = yield* upstream((response, { url }) => response.writeHead(Number(url.slice(1))).end())
      for (const status of [200, 204, 304, 404, 500, 599]) {
        assert.strictEqual((yield* fetched(client, `${url}/${status}`)).status, status)
        yield* opened(client, `${url}/${status}`, { requestId: `${status}` })
        assert.deepStrictEqual(yield* streamed(client, `${status}`), { body: Buffer.alloc(0), error: null })
        assert.lengthOf(deltas(client, `${status}`), 1)
      }
      assert.strictEqual((yield* fetched(client, `${url}/200`, { method: "HEAD" })).body, "")
    }))

  test("a body is not decoded, however it was encoded and framed", (client) =>
    Effect.gen(function* () {
      const packed = gzipSync("hello")
      const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
      const { url } = yield* upstream((response, { url }) => {
        if (url === "/gzip") response.writeHead(200, { "content-encoding": "gzip" }).end(packed)
        else if (url === "/close")
          response.writeHead(200, { connection: "close", "transfer-encoding": "identity" }).end(every)
        else for (const byte of every) response.write(Buffer.from([byte]))
        response.end()
      })
      for (const [path, body] of [
        ["/gzip", packed],
        ["/close", every],
        ["/bytes", every]
      ] as const) {
        const { bodyBase64 } = yield* client.ask("http/request", httpParams(url + path))
        assert.deepStrictEqual(Buffer.from(bodyBase64, "base64"), body)
        yield* opened(client, url + path, { requestId: path })
        assert.deepStrictEqual(yield* streamed(client, path), { body, error: null })
      }
    }))

  test("20 MB arrive byte for byte, in pieces of at most 1 MiB", (client) =>
    Effect.gen(function* () {
      const body = Buffer.from(Array.from({ length: 2_000_000 }, (_, i) => `${i}`.padStart(9, "0")).join("\n"))
      const { url } = yield* upstream((response) => response.end(body))
      yield* opened(client, url)
      const { body: received, error } = yield* streamed(client)
      assert.isNull(error)
      assert.isTrue(received.equals(body))
      const longest = Math.max(...deltas(client).map(({ deltaBase64 }) => Buffer.byteLength(deltaBase64, "base64")))
      assert.isAtMost(longest, 1048576)
      assert.isTrue(Buffer.from((yield* fetched(client, url)).body).equals(body))
    }))

  test("silence is no failure, before the headers or in the body", (client) =>
    Effect.gen(function* () {
      // Longer than an idle connection is kept.
      const silenceMs = 4500
      const { url } = yield* upstream((response, { url }) => {
        if (url === "/body") response.write("begin")
        setTimeout(() => response.end("end"), silenceMs)
      })
      yield* opened(client, `${url}/body`)
      const late = yield* Effect.fork(fetched(client, url))
      assert.deepStrictEqual(yield* streamed(client), { body: Buffer.from("beginend"), error: null })
      assert.strictEqual((yield* Fiber.join(late)).body, "end")
    }))

  test("headers that announce what is to come are not the response", (client) =>
    Effect.gen(function* () {
      const { url } = yield* rawUpstream((socket) =>
        socket.write("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
      )
      assert.deepInclude(yield* fetched(client, url), { status: 200, body: "ok" })
    }))
})

describe("redirects", () => {
  const redirecting = upstream((response, { url }) => {
    const left = Number(/^\/(\d+)/.exec(url)?.[1] ?? 0)
    if (left > 0) response.writeHead(302, { location: `/${left - 1}` }).end("redirecting")
    else if (url === "/ftp") response.writeHead(302, { location: "ftp://x/" }).end()
    else response.end("end")
  })

  test("are followed, or given as they are", (client) =>
    Effect.gen(function* () {
      const { url, arrived } = yield* redirecting
      assert.deepInclude(yield* fetched(client, `${url}/1`), { status: 200, body: "end" })
      assert.deepStrictEqual(
        arrived.map((one) => valuesOf(one, "referer")),
        [[], [`${url}/1`]]
      )
      const stopped = yield* fetched(client, `${url}/1`, { redirectPolicy: "stop" })
      assert.deepInclude(stopped, { status: 302, body: "redirecting" })
      assert.deepInclude(stopped.headers, { name: "location", value: "/0" })
      yield* opened(client, `${url}/3`)
      assert.strictEqual((yield* streamed(client)).body.toString(), "end")
    }))

  test("are followed ten times, and nowhere but to http and https", (client) =>
    Effect.gen(function* () {
      const { url } = yield* redirecting
      assert.strictEqual((yield* fetched(client, `${url}/10`)).body, "end")
      for (const [path, last] of [
        ["/11", "/1"],
        ["/ftp", "/ftp"]
      ]) {
        assert.deepStrictEqual(yield* refused(client, url + path), {
          code: -32603,
          message: `http/request failed: error following redirect for url (${url}${last})`
        })
      }
    }))

  test("to another origin take no secrets along, and a GET no body", (client) =>
    Effect.gen(function* () {
      process.env["EXEC_SERVER_TEST_KEY"] = "k"
      yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env["EXEC_SERVER_TEST_KEY"]))
      const other = yield* hello
      const { url, arrived } = yield* upstream((response, { url }) =>
        response.writeHead(url === "/307" ? 307 : 302, { location: other.url }).end()
      )
      const headers = [
        { name: "authorization", value: "a" },
        { name: "cookie", value: "c" },
        { name: "x-key", value: "", valueEnvVar: "EXEC_SERVER_TEST_KEY" },
        { name: "x-plain", value: "p" }
      ]
      for (const path of ["/302?q", "/307"]) {
        yield* fetched(client, url + path, { method: "POST", bodyBase64: "aGk=", headers })
      }
      assert.deepStrictEqual(
        arrived.map(({ body }) => body),
        ["hi", "hi"]
      )
      assert.deepStrictEqual(
        other.arrived.map(({ method, body }) => [method, body]),
        [
          ["GET", ""],
          ["POST", "hi"]
        ]
      )
      for (const one of other.arrived) {
        for (const name of ["authorization", "cookie", "x-key"]) assert.lengthOf(valuesOf(one, name), 0)
        assert.deepStrictEqual(valuesOf(one, "x-plain"), ["p"])
        assert.deepStrictEqual(valuesOf(one, "referer"), [`${url}/`])
      }
    }))

  test("count against the time of the exchange", (client) =>
    Effect.gen(function* () {
      const { url } = yield* upstream((response) => {
        setTimeout(() => response.writeHead(302, { location: "/" }).end(), 100)
      })
      const error = yield* refused(client, url, { timeoutMs: 350 })
      assert.deepStrictEqual(error, { code: -32603, message: sending(`${url}/`) })
    }))
})

describe("a failure", () => {
  test("before the response names the URL", (client) =>
    Effect.gen(function* () {
      const refusing = yield* rawUpstream((socket) => socket.destroy())
      const nonsense = yield* rawUpstream((socket) => socket.end("nonsense\r\n\r\n"))
      const switching = yield* rawUpstream((socket) =>
        socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
      )
      const huge = yield* rawUpstream((socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${"x".repeat(100000)}\r\n\r\n`))
      const { url: slow } = yield* silent
      for (const [url, more] of [
        ["http://127.0.0.1:1/", {}],
        ["http://u:p@127.0.0.1:1/", {}],
        ["http://no-such-host.invalid/", {}],
        [refusing.url, {}],
        [nonsense.url, {}],
        [switching.url, {}],
        [huge.url, {}],
        [slow, { timeoutMs: 100 }],
        [slow, { timeoutMs: 100, streamResponse: true }],
        ["http://127.0.0.1:1/", { streamResponse: true }]
      ] as const) {
        const shown = new URL(url.replace("u:p@", "")).href
        assert.deepStrictEqual(yield* refused(client, url, more), { code: -32603, message: sending(shown) })
      }
      assert.lengthOf(deltas(client), 0)
    }))

  test("of a tunnel that is asked for as a method", (client) =>
    Effect.gen(function* () {
      const { url } = yield* rawUpstream((socket) => socket.write("HTTP/1.1 200 OK\r\n\r\n"))
      assert.deepStrictEqual(yield* refused(client, url, { method: "CONNECT" }), {
        code: -32603,
        message: sending(`${url}/`)
      })
    }))

  test("without any time at all comes at once", (client) =>
    Effect.gen(function* () {
      const server = yield* hello
      for (const streamResponse of [false, true]) {
        assert.deepStrictEqual(yield* refused(client, server.url, { timeoutMs: 0, streamResponse }), {
          code: -32603,
          message: "http/request failed: route-aware request timed out"
        })
      }
      assert.strictEqual(server.connections(), 0)
    }))

  for (const [what, server, more] of [
    ["a time that runs out in the body", stuck, { timeoutMs: 200 }],
    [
      "a connection that ends in the body",
      upstream((response) => {
        response.writeHead(200, { "content-length": 100 })
        response.write("part", () => setTimeout(() => response.destroy(), 50))
      }),
      {}
    ],
    [
      "a chunk that is none",
      rawUpstream((socket) => {
        socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n")
        setTimeout(() => socket.write("nonsense"), 50)
      }),
      {}
    ]
  ] as const) {
    test(`in the body: ${what}`, (client) =>
      Effect.gen(function* () {
        const { url, open } = yield* server
        assert.deepStrictEqual(yield* refused(client, url, more), {
          code: -32603,
          message: `failed to read http/request response body: ${broken}`
        })
        yield* opened(client, url, more)
        assert.deepStrictEqual(yield* streamed(client), { body: Buffer.from("part"), error: broken })
        yield* eventually("the connections are closed", () => open() === 0)
        // The server lives on, and so does the name.
        yield* opened(client, (yield* hello).url)
      }))
  }

  test("of what cannot be a request is -32602, and names what is wrong", (client) =>
    Effect.gen(function* () {
      for (const [params, message] of [
        [{ method: "B D" }, "http/request method is invalid: invalid HTTP method"],
        [{ url: "nope" }, "http/request url is invalid: relative URL without a base"],
        [{ url: "ftp://x/" }, "http/request only supports http and https URLs, got ftp"],
        [{ requestId: undefined }, "missing field `requestId`"],
        [{ method: undefined }, "missing field `method`"],
        [{ headers: null }, "invalid type: null, expected a sequence (field `headers`)"],
        [{ headers: [{ name: "x" }] }, "missing field `value` in `headers.0`"],
        [{ bodyBase64: "!" }, "Invalid symbol 33, offset 0. (field `bodyBase64`)"],
        [{ timeoutMs: -1 }, "invalid number: -1 is not an integer of 0 or more (field `timeoutMs`)"],
        [{ streamResponse: null }, "invalid type: null, expected a boolean (field `streamResponse`)"],
        [{ redirectPolicy: "x" }, "unknown variant `x`, expected `follow` or `stop` (field `redirectPolicy`)"]
      ] as const) {
        assert.deepStrictEqual(yield* refused(client, "http://127.0.0.1:1/", params), { code: -32602, message })
      }
    }))
})

describe("streams", () => {
  test("pieces come as they arrive, and two streams do not wait for each other", (client) =>
    Effect.gen(function* () {
      const pending = new Map<string, (text: string | undefined) => void>()
      const { url } = yield* upstream((response, { url }) => {
        response.writeHead(200)
        response.flushHeaders()
        pending.set(url, (text) => (text === undefined ? response.end() : response.write(text)))
      })
      const say = (path: string, text?: string) => pending.get(path)?.(text)
      const hears = (requestId: string, seq: number) =>
        client.notified("http/request/bodyDelta", (p) => p.requestId === requestId && p.seq === seq)
      yield* opened(client, `${url}/a`, { requestId: "a" })
      yield* opened(client, `${url}/b`, { requestId: "b" })
      for (let i = 1; i <= 3; i++) {
        say("/a", `a${i}`)
        yield* hears("a", i)
        say("/b", `b${i}`)
        yield* hears("b", i)
      }
      say("/b")
      assert.strictEqual((yield* streamed(client, "b")).body.toString(), "b1b2b3")
      say("/a", "tail")
      say("/a")
      assert.strictEqual((yield* streamed(client, "a")).body.toString(), "a1a2a3tail")
    }))

  test("a name is taken until its stream has ended, and free whenever the request failed", (client) =>
    Effect.gen(function* () {
      const { url } = yield* stuck
      const taken = { code: -32602, message: "http/request streamResponse requestId `r` is already active" }
      const first = client.post("http/request", httpParams(url, { streamResponse: true, timeoutMs: 2000 }))
      // In the order they arrive: also while the first has no answer yet.
      assert.deepStrictEqual(yield* refused(client, url, { streamResponse: true }), taken)
      yield* client.reply(first)
      assert.deepStrictEqual(yield* refused(client, url, { streamResponse: true }), taken)
      // Names of exchanges that are not streamed mean nothing.
      assert.strictEqual((yield* fetched(client, (yield* hello).url)).body, "hello")
      assert.strictEqual((yield* streamed(client)).error, broken)
      client.messages.length = 0
      yield* refused(client, "http://127.0.0.1:1/", { streamResponse: true })
      yield* refused(client, "nope", { streamResponse: true })
      yield* opened(client, (yield* hello).url)
      assert.strictEqual((yield* streamed(client)).body.toString(), "hello")
    }))

  test("an exchange holds nothing up, and any name will do", (client) =>
    Effect.gen(function* () {
      const { url } = yield* silent
      const requestId = 'a "b"\n\u2028ü'
      client.post("http/request", httpParams(url))
      client.post("http/request", httpParams(url, { streamResponse: true }))
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      yield* opened(client, (yield* hello).url, { requestId })
      assert.strictEqual((yield* streamed(client, requestId)).body.toString(), "hello")
    }))

  for (const [name, connect] of [
    ["memory", memory],
    ["WebSocket", webSocket]
  ] as const) {
    it.scopedLive(`${name}: the end of the connection ends every exchange of it`, () =>
      Effect.gen(function* () {
        const waiting = yield* silent
        const begun = yield* stuck
        const client = yield* connect
        yield* client.handshake()
        for (const streamResponse of [false, true]) {
          client.post("http/request", httpParams(waiting.url, { requestId: "w", streamResponse }))
          client.post("http/request", httpParams(begun.url, { requestId: "b", streamResponse }))
        }
        yield* client.notified("http/request/bodyDelta")
        yield* eventually("all have arrived", () => waiting.arrived.length + begun.arrived.length === 4)
        client.carrier.close()
        yield* client.ended()
        yield* eventually("all are aborted", () => waiting.open() + begun.open() === 0)
      })
    )
  }
})

describe("limits", () => {
  const limited = (changed: object) =>
    on(
      Effect.flatMap(
        Layer.build(memoryLayer.pipe(Layer.provide(Layer.succeed(HttpLimits, { ...defaults, ...changed })))),
        (context) => Effect.provide(memoryClient, context)
      )
    )

  limited({ maxHttpRequestsPerConnection: 3 })("on the number of exchanges of a connection", (client) =>
    Effect.gen(function* () {
      const { url } = yield* stuck
      const { url: quick } = yield* hello
      yield* opened(client, url, { requestId: "1", timeoutMs: 3000 })
      yield* opened(client, url, { requestId: "2", timeoutMs: 3000 })
      client.post("http/request", httpParams(url, { timeoutMs: 3000 }))
      for (const streamResponse of [true, false]) {
        assert.deepStrictEqual(yield* refused(client, quick, { requestId: "3", streamResponse }), {
          code: -32600,
          message: "the limit maxHttpRequestsPerConnection (3) is reached; wait for an exchange to end"
        })
      }
      yield* streamed(client, "1")
      yield* streamed(client, "2")
      for (let i = 0; i < 10; i++) assert.strictEqual((yield* fetched(client, quick)).body, "hello")
    })
  )

  limited({ httpBufferBytesPerConnection: 100_000 })("on the bytes of what is not streamed", (client) =>
    Effect.gen(function* () {
      const { url, open } = yield* upstream((response, { url }) => response.end(Buffer.alloc(Number(url.slice(1)))))
      const message =
        "the limit httpBufferBytesPerConnection (100000) is reached; " +
        "ask for the response as a stream, or for fewer at a time"
      assert.strictEqual((yield* fetched(client, `${url}/100000`)).body.length, 100_000)
      assert.deepStrictEqual(yield* refused(client, `${url}/100001`), { code: -32600, message })
      yield* eventually("the connection of the refused one is closed", () => open() <= 1)
      const { url: half } = yield* upstream((response) => response.write(Buffer.alloc(60_000)))
      const first = client.post("http/request", httpParams(half, { timeoutMs: 20_000 }))
      const second = client.post("http/request", httpParams(half, { timeoutMs: 20_000 }))
      const { error } = yield* client.message("a refusal", ({ id }) => id === first || id === second)
      assert.deepStrictEqual(error, { code: -32600, message })
      yield* opened(client, `${url}/5000000`)
      assert.strictEqual((yield* streamed(client)).body.length, 5_000_000)
      // What the refused one had was given back.
      assert.strictEqual((yield* fetched(client, `${url}/40000`)).body.length, 40_000)
    })
  )
})
