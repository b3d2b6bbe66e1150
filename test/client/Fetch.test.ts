/** The standard `fetch` over a client: what libraries that take a `fetch` rely on. */
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { TransportClosed } from "../../src/client/ClientError.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as Fetch from "../../src/client/Fetch.js"
import { realSessions } from "../support/composed.js"
import { eventually, webSocketServer } from "../support/servers.js"
import { type Arrived, upstream, valuesOf } from "../support/upstream.js"

const inProcess = Effect.map(
  Layer.build(ExecClient.layerInProcess().pipe(Layer.provide(realSessions))),
  Context.get(ExecClient.ExecClient)
)

/** A `fetch` whose requests this process makes. */
const fetching = Effect.flatMap(inProcess, ({ http }) => Fetch.make(http))

const promise = <A>(evaluate: () => Promise<A>) => Effect.promise(evaluate)

/** The reason of a promise that must be rejected. */
const rejected = (evaluate: () => Promise<unknown>): Effect.Effect<Error> =>
  Effect.flip(Effect.tryPromise({ try: evaluate, catch: (reason) => reason as Error })).pipe(Effect.orDie)

const causeOf = ({ cause }: Error): string => (cause instanceof Error ? cause.message : String(cause))

/** A server whose paths are statuses: `/302?to=/x` redirects to `/x`; all others answer what they have got. */
const site = upstream((response, { url, method, body }) => {
  const { pathname, searchParams } = new URL(url, "http://x")
  const status = Number(pathname.slice(1))
  if (Number.isInteger(status) && status > 0) {
    const location = searchParams.get("to")
    return void response.writeHead(status, location === null ? {} : { location }).end()
  }
  response.setHeader("set-cookie", ["a=1", "b=2"])
  response.end(JSON.stringify({ method, body }))
})

describe("a request", () => {
  it.scopedLive("has its method, headers and body, of every form that the standard takes", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const { url, arrived } = yield* site
      const pieces = new ReadableStream<Uint8Array>({
        start: (controller) => {
          for (const piece of ["a", "b", "c"]) controller.enqueue(new TextEncoder().encode(piece))
          controller.close()
        }
      })
      const posted = yield* promise(() => fetch(`${url}/x`, { method: "POST", body: "text", headers: { "x-a": "1" } }))
      assert.deepStrictEqual(yield* promise(() => posted.json()), { method: "POST", body: "text" })
      yield* promise(() => fetch(new Request(`${url}/x`, { method: "PUT", body: new URLSearchParams({ q: "ä b" }) })))
      yield* promise(() => fetch(new URL(`${url}/x`), { method: "PUT", body: pieces, duplex: "half" }))
      yield* promise(() => fetch(`${url}/x`))
      assert.deepStrictEqual(
        arrived.map(({ method, body }) => [method, body]),
        [
          ["POST", "text"],
          ["PUT", "q=%C3%A4+b"],
          ["PUT", "abc"],
          ["GET", ""]
        ]
      )
      const [first, second] = arrived as [Arrived, Arrived]
      assert.deepStrictEqual(valuesOf(first, "x-a"), ["1"])
      assert.deepStrictEqual(valuesOf(first, "content-type"), ["text/plain;charset=UTF-8"])
      assert.deepStrictEqual(valuesOf(second, "content-type"), ["application/x-www-form-urlencoded;charset=UTF-8"])
    })
  )

  it.scopedLive("that cannot be made as it is asked for is refused before it is sent", () =>
    Effect.gen(function* () {
      const { http } = yield* inProcess
      const fetch = yield* Fetch.make(http, { maxRequestBytes: 4 })
      const { url, arrived } = yield* site
      const refusals: ReadonlyArray<readonly [RegExp, Parameters<typeof fetch>]> = [
        [/./, ["no address"]],
        [/./, [url, { body: "a body of a GET" }]],
        [/integrity/, [url, { integrity: "sha256-abc" }]],
        [/transfer-encoding/, [url, { headers: { "transfer-encoding": "chunked" } }]],
        [/upgrade/, [url, { headers: { upgrade: "websocket" } }]],
        [/x-name is not UTF-8/, [url, { headers: { "x-name": "\xe9" } }]],
        [/longer than 4 bytes/, [url, { method: "POST", body: "12345" }]],
        [/content-length is 3/, [url, { method: "POST", body: "1234", headers: { "content-length": "3" } }]],
        [/only supports http and https/, ["ftp://127.0.0.1/"]]
      ]
      for (const [pattern, args] of refusals) {
        const error = yield* rejected(() => fetch(...args))
        assert.instanceOf(error, TypeError)
        assert.match(`${error.message} ${causeOf(error)}`, pattern)
      }
      assert.deepStrictEqual(arrived, [])
    })
  )
})

describe("a response", () => {
  it.scopedLive("has status, address and headers, and may be cloned", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const { url } = yield* site
      const response = yield* promise(() => fetch(`${url}/x`))
      const copy = response.clone()
      for (const each of [response, copy]) {
        assert.deepStrictEqual([each.status, each.ok, each.url, each.redirected], [200, true, `${url}/x`, false])
        assert.deepStrictEqual(each.headers.getSetCookie(), ["a=1", "b=2"])
        assert.deepInclude(yield* promise(() => each.json()), { method: "GET" })
      }
      for (const status of [204, 304, 404, 500]) {
        const answer = yield* promise(() => fetch(`${url}/${status}`))
        assert.deepStrictEqual([answer.status, yield* promise(() => answer.text())], [status, ""])
      }
      const head = yield* promise(() => fetch(`${url}/x`, { method: "HEAD" }))
      assert.isNull(head.body)
    })
  )

  it.scopedLive("comes before its body, which is complete, decoded, and read at its reader's pace", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const large = Buffer.alloc(5_000_000, "0123456789abcdef")
      let finish = () => {}
      const { url } = yield* upstream((response, { url }) => {
        if (url === "/gzip") response.setHeader("content-encoding", "gzip").end(gzipSync(large))
        else if (url === "/br") response.setHeader("content-encoding", "br").end("x")
        else if (url === "/broken") {
          response.writeHead(200, { "content-length": "10" }).write("short", () => response.destroy())
        } else {
          response.write("first")
          finish = () => response.end(large)
        }
      })
      const slow = yield* promise(() => fetch(`${url}/slow`))
      assert.strictEqual(slow.status, 200)
      finish()
      const bytes = Buffer.from(yield* promise(() => slow.arrayBuffer()))
      assert.isTrue(bytes.equals(Buffer.concat([Buffer.from("first"), large])))
      const packed = yield* promise(() => fetch(`${url}/gzip`))
      assert.isTrue(Buffer.from(yield* promise(() => packed.arrayBuffer())).equals(large))
      assert.include(causeOf(yield* rejected(() => fetch(`${url}/br`))), "encoded by br")
      const broken = yield* promise(() => fetch(`${url}/broken`))
      assert.include(causeOf(yield* rejected(() => broken.text())), "error decoding response body")
    })
  )

  it.scopedLive("that does not come is a TypeError whose cause is the client's error", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const error = yield* rejected(() => fetch("http://127.0.0.1:1/"))
      assert.instanceOf(error, TypeError)
      assert.strictEqual(error.message, "fetch failed")
      assert.deepInclude(error.cause, { _tag: "ServerError", code: -32603 })
      const lost = yield* Fetch.make({ stream: () => new TransportClosed({ reason: undefined }) })
      assert.deepInclude((yield* rejected(() => lost("http://127.0.0.1:1/"))).cause, { _tag: "TransportClosed" })
    })
  )
})

describe("redirects", () => {
  it.scopedLive("are followed, returned, or an error", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const { url, arrived } = yield* site
      const from = `${url}/302?to=${encodeURIComponent("/308?to=/x")}`
      const followed = yield* promise(() =>
        fetch(from, { method: "POST", body: "b", referrerPolicy: "no-referrer", headers: { authorization: "secret" } })
      )
      assert.deepStrictEqual([followed.status, followed.url, followed.redirected], [200, `${url}/x`, true])
      assert.deepStrictEqual(yield* promise(() => followed.json()), { method: "GET", body: "" })
      assert.deepStrictEqual(
        arrived.map((each) => [valuesOf(each, "authorization"), valuesOf(each, "referer")]),
        [
          [["secret"], []],
          [["secret"], []],
          [["secret"], []]
        ]
      )
      const kept = yield* promise(() => fetch(`${url}/307?to=/x`, { method: "POST", body: "b" }))
      assert.deepStrictEqual(yield* promise(() => kept.json()), { method: "POST", body: "b" })
      const manual = yield* promise(() => fetch(from, { redirect: "manual" }))
      assert.deepStrictEqual([manual.status, manual.url, manual.redirected], [302, from, false])
      assert.include(causeOf(yield* rejected(() => fetch(from, { redirect: "error" }))), "redirects")
      assert.include(causeOf(yield* rejected(() => fetch(`${url}/302?to=ftp://x`))), "error following redirect")
    })
  )

  it.scopedLive("take no credentials to another origin, and have an end", () =>
    Effect.gen(function* () {
      const fetch = yield* fetching
      const { url, arrived } = yield* site
      const other = yield* upstream((response) => void response.writeHead(302, { location: `${url}/x` }).end())
      yield* promise(() => fetch(other.url, { headers: { authorization: "secret", "x-a": "1" } }))
      assert.deepStrictEqual(valuesOf(arrived[0] as Arrived, "authorization"), [])
      assert.deepStrictEqual(valuesOf(arrived[0] as Arrived, "x-a"), ["1"])
      const loop = yield* upstream((response) => void response.writeHead(302, { location: "/" }).end())
      assert.include(causeOf(yield* rejected(() => fetch(loop.url))), "error following redirect")
      assert.strictEqual(loop.arrived.length, 11)
    })
  )
})

describe("an end", () => {
  /** A server that never answers `/silent`, and whose other bodies never end. */
  const endless = upstream((response, { url }) => {
    if (url !== "/silent") response.write("first")
  })

  it.scopedLive("by a signal: before the request, before the headers, and in the body", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const { http } = yield* ExecClient.connectWebSocket({ url: server.url })
      const fetch = yield* Fetch.make(http)
      const { url, arrived, open } = yield* endless
      const gone = AbortSignal.abort(new Error("at once"))
      assert.strictEqual((yield* rejected(() => fetch(url, { signal: gone }))).message, "at once")
      assert.deepStrictEqual(arrived, [])
      const silent = new AbortController()
      const waiting = fetch(`${url}/silent`, { signal: silent.signal })
      waiting.catch(() => {})
      yield* eventually("the request is there", () => arrived.length === 1)
      silent.abort()
      assert.strictEqual((yield* rejected(() => waiting)).name, "AbortError")
      const reading = new AbortController()
      const response = yield* promise(() => fetch(url, { signal: reading.signal }))
      const text = response.text()
      text.catch(() => {})
      reading.abort(new Error("enough"))
      assert.strictEqual((yield* rejected(() => text)).message, "enough")
      yield* eventually("no exchange is left", () => open() === 0)
    })
  )

  it.scopedLive("by the reader, and by the scope", () =>
    Effect.gen(function* () {
      const { http } = yield* inProcess
      const { url, open } = yield* endless
      const scope = yield* Scope.make()
      const fetch = yield* Scope.extend(Fetch.make(http), scope)
      const cancelled = yield* promise(() => fetch(url))
      yield* promise(() => cancelled.body?.cancel() ?? Promise.resolve())
      yield* eventually("no exchange is left", () => open() === 0)
      const response = yield* promise(() => fetch(url))
      const text = response.text()
      text.catch(() => {})
      yield* Scope.close(scope, Exit.void)
      assert.instanceOf(yield* rejected(() => text), TypeError)
      yield* eventually("no exchange is left", () => open() === 0)
    })
  )
})
