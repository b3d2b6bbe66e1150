/** Spans of requests: whose children they are, and where they go. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { serverLayer } from "../support/fake.js"
import { eventually, launch, memoryClient, webSocketServer } from "../support/servers.js"
import { type Json, startParams, type TestClient } from "../support/TestClient.js"
import { spanKeeper } from "../support/traces.js"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const parentId = "b7ad6b7169203331"
const traceparent = `00-${traceId}-${parentId}-01`

/** A collector of spans on a port of its own. */
const collector: Effect.Effect<
  { readonly url: string; readonly spans: ReadonlyArray<Json>; readonly services: ReadonlyArray<Json> },
  never,
  Scope.Scope
> = Effect.acquireRelease(
  Effect.async<{ readonly server: ReturnType<typeof createServer>; readonly url: string; spans: Array<Json> }>(
    (resume) => {
      const spans: Array<Json> = []
      const server = createServer((request, response) => {
        let body = ""
        request.on("data", (chunk) => {
          body += chunk
        })
        request.on("end", () => {
          if (request.url === "/v1/traces") spans.push(...JSON.parse(body).resourceSpans)
          response.end("{}")
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({ server, spans, url: `http://127.0.0.1:${port}` }))
      })
    }
  ),
  ({ server }) =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
).pipe(
  Effect.map(({ spans, url }) => ({
    url,
    get services() {
      return spans.flatMap(({ resource }) => resource.attributes)
    },
    get spans() {
      return spans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope: Json) => scope.spans))
    }
  }))
)

const startTraced = (client: TestClient, processId: string, trace: unknown) =>
  Effect.gen(function* () {
    const params = startParams(processId, ["/bin/echo", "hunter2"])
    client.raw(JSON.stringify({ id: processId, method: "process/start", params, trace }))
    return yield* client.reply(processId)
  })

describe("spans", () => {
  it.scopedLive("a request continues its client's trace, and what it does is below it", () => {
    const { spans, layer } = spanKeeper()
    return Effect.gen(function* () {
      const client = yield* memoryClient
      const { sessionId } = yield* client.handshake()
      yield* startTraced(client, "p", { traceparent, tracestate: "vendor=1" })
      const request = spans.find(({ name }) => name === "exec-server.process/start")
      assert.strictEqual(request?.traceId, traceId)
      assert.strictEqual(Option.getOrUndefined(request?.parent ?? Option.none())?.spanId, parentId)
      assert.strictEqual(request?.status._tag, "Ended")
      assert.deepInclude(Object.fromEntries(request?.attributes ?? []), {
        requestId: '"p"',
        sessionId,
        code: "ok",
        peer: "memory"
      })
      const spawn = spans.find(({ name }) => name === "ProcessSupervisor.spawn")
      assert.strictEqual(spawn?.traceId, traceId)
      assert.strictEqual(Option.getOrUndefined(spawn?.parent ?? Option.none())?.spanId, request?.spanId)
    }).pipe(Effect.provide(serverLayer().pipe(Layer.provide(layer))))
  })

  it.scopedLive("without a trace context, or with none that can be read, a request begins a trace", () => {
    const { spans, layer } = spanKeeper()
    return Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const traces: ReadonlyArray<unknown> = [
        undefined,
        null,
        {},
        { traceparent: 7 },
        { traceparent: "00-0-0-00" },
        { traceparent: `99-${traceId}-${parentId}-01` }
      ]
      for (const [i, trace] of traces.entries()) yield* startTraced(client, `p${i}`, trace)
      const requests = spans.filter(({ name }) => name === "exec-server.process/start")
      assert.lengthOf(requests, traces.length)
      for (const { parent } of requests) assert.isTrue(Option.isNone(parent))
      assert.strictEqual(new Set(requests.map(({ traceId }) => traceId)).size, traces.length)
    }).pipe(Effect.provide(serverLayer().pipe(Layer.provide(layer))))
  })
})

describe("--otlp-endpoint", () => {
  it.scopedLive("sends spans to a collector, the last ones at the end, and none of what they were about", () =>
    Effect.gen(function* () {
      const found = yield* collector
      const server = yield* webSocketServer({ args: ["--otlp-endpoint", `${found.url}/`] })
      const client = yield* server.connect
      yield* client.handshake()
      yield* startTraced(client, "p", { traceparent })
      yield* client.closed("p")
      yield* client.call("process/wait", { processId: "unknown" })
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      const request = found.spans.find(({ name }) => name === "exec-server.process/start")
      assert.deepInclude(request, { traceId, parentSpanId: parentId })
      const spawn = found.spans.find(({ name }) => name === "ProcessSupervisor.spawn")
      assert.deepInclude(spawn, { traceId, parentSpanId: request.spanId })
      const wait = found.spans.find(({ name }) => name === "exec-server.process/wait")
      assert.deepInclude(wait.attributes, { key: "code", value: { intValue: -32600 } })
      assert.deepInclude(found.services, { key: "service.name", value: { stringValue: "exec-server" } })
      assert.notInclude(JSON.stringify(found.spans), "hunter2")
    })
  )

  it.scopedLive("a collector that is not there harms nobody", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--otlp-endpoint", "http://127.0.0.1:1"] })
      const client = yield* server.connect
      yield* client.handshake()
      yield* startTraced(client, "p", { traceparent })
      yield* client.closed("p")
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
    })
  )

  it.scopedLive("takes a URL of HTTP and nothing else", () =>
    Effect.gen(function* () {
      for (const endpoint of ["127.0.0.1:4318", "ws://127.0.0.1:1", ""]) {
        const server = yield* launch({ args: ["--otlp-endpoint", endpoint] })
        assert.strictEqual(yield* server.exit, 2)
        yield* eventually("it is said", () => server.stderr().includes("Error: --otlp-endpoint: expected an http"))
      }
    })
  )
})
