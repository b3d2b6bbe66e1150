/** What is told of requests: spans, log lines and counts. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import { UnknownProcess } from "../../src/protocol/Failure.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import type { Handshake } from "../../src/session/Handshake.js"
import * as RequestReport from "../../src/session/RequestReport.js"
import { spanKeeper } from "../support/traces.js"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"
const traceparent = `00-${traceId}-${spanId}-01`
const parent = RequestReport.parentOf({ traceparent })

const before = { initialized: undefined } as unknown as Handshake
const after = { initialized: { session: { id: "s" } } } as unknown as Handshake

const request = (more: Partial<RequestReport.Request> = {}): RequestReport.Request => ({
  id: '"r"',
  method: "process/read",
  arrivedAt: performance.now() - 5000,
  parent: undefined,
  ...more
})

/** A tracer and a logger that keep what they get. */
const keeper = () => {
  const { spans, layer } = spanKeeper()
  const lines: Array<{ readonly level: string; readonly message: unknown; readonly cause: string } & object> = []
  const logger = Logger.make<unknown, void>(({ annotations, cause, logLevel, message }) => {
    const annotated = Object.fromEntries(HashMap.toEntries(annotations))
    lines.push({ level: logLevel.label, message, cause: Cause.isEmpty(cause) ? "" : "some", ...annotated })
  })
  return { spans, lines, traces: layer, logs: Logger.replace(Logger.defaultLogger, logger) }
}

/** The span that a handler finds itself in. */
const found = Effect.map(Effect.option(Effect.currentParentSpan), Option.getOrUndefined)

const missing = new UnknownProcess({ processId: ProcessId.make("p") })

describe("the span of the client", () => {
  it("is read from its trace context, and from nothing else", () => {
    assert.deepInclude(RequestReport.parentOf({ traceparent }), { traceId, spanId, sampled: true })
    for (const traceparent of [undefined, null, 7, "", "00-0-0-00"]) {
      assert.isUndefined(RequestReport.parentOf({ traceparent } as never))
    }
  })
})

describe("around a request", () => {
  it.effect("nothing is done where nobody would see it", () =>
    Effect.gen(function* () {
      const { around } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, before)
      assert.isUndefined(around(request()))
    })
  )

  it.effect("without a tracer, the handler is in the span of its client, and makes none", () => {
    const { lines, logs } = keeper()
    return Effect.gen(function* () {
      const { around } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, before)
      assert.strictEqual(yield* around(request({ parent }))?.(found) ?? Effect.void, parent)
      assert.deepStrictEqual(lines, [])
    }).pipe(Effect.provide(logs))
  })

  for (const [handshake, ids] of [
    [before, { peer: "peer", subject: "subject", requestId: '"r"' }],
    [after, { peer: "peer", subject: "subject", requestId: '"r"', sessionId: "s" }]
  ] as const) {
    for (const [code, handler] of [
      ["ok", Effect.succeed("done")],
      [-32600, Effect.fail(missing)],
      [-32603, Effect.die(new Error("a bug"))],
      ["interrupted", Effect.interrupt]
    ] as const) {
      const session = "sessionId" in ids ? "in a session" : "before the session"
      it.effect(`a tracer gets a span that says how it ended: ${code}, ${session}`, () => {
        const { spans, lines, traces, logs } = keeper()
        return Effect.gen(function* () {
          const { around } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, handshake)
          yield* Effect.exit(around(request({ parent }))?.(handler) ?? Effect.void)
          assert.lengthOf(spans, 1)
          const [span] = spans
          assert.strictEqual(span?.name, "exec-server.process/read")
          assert.strictEqual(Option.getOrUndefined(span?.parent ?? Option.none()), parent)
          assert.deepStrictEqual(Object.fromEntries(span?.attributes ?? []), { ...ids, code })
          assert.deepStrictEqual(lines, [])
        }).pipe(Effect.provide(traces), Effect.provide(logs))
      })

      it.effect(`at the level of traces, a line says how it ended: ${code}, ${session}`, () => {
        const { lines, logs } = keeper()
        return Effect.gen(function* () {
          const { around } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, handshake)
          yield* Effect.exit(around(request())?.(handler) ?? Effect.void)
          assert.lengthOf(lines, 1)
          const { ms, ...line } = { ms: 0, ...lines[0] }
          const expected = { level: "TRACE", message: ["request"], cause: "", method: "process/read", ...ids, code }
          assert.deepStrictEqual<object>(line, expected)
          assert.isTrue(Number.isInteger(ms) && ms >= 5000 && ms < 15_000, `${ms}`)
        }).pipe(Logger.withMinimumLogLevel(LogLevel.Trace), Effect.provide(logs))
      })
    }
  }
})

it.effect("a defect is logged with the request that died of it, in the span of its client", () => {
  const { lines, logs } = keeper()
  return Effect.gen(function* () {
    const { died } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, after)
    yield* died(request({ parent }), Cause.die(new Error("a bug")))
    const { message, ...line } = { message: undefined, ...lines[0] }
    assert.include(String(message), "a request died of a defect")
    const ids = { peer: "peer", subject: "subject", requestId: '"r"', sessionId: "s", method: "process/read" }
    assert.deepStrictEqual<object>(line, { level: "ERROR", cause: "some", ...ids })
  }).pipe(Effect.provide(logs))
})

it.effect("what was answered is counted by its outcome, with the time that it took", () =>
  Effect.gen(function* () {
    const { answered } = yield* RequestReport.make({ peer: "peer", subject: "subject" }, before)
    /** How often, and how many seconds in all. */
    const counted = (code: string) => {
      let [count, seconds] = [0, 0]
      for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
        const labels = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
        if (labels.method !== "process/signal" || labels.code !== code) continue
        if (MetricState.isCounterState(metricState)) count += Number(metricState.count)
        if (MetricState.isHistogramState(metricState)) seconds += metricState.sum
      }
      return { count, seconds }
    }
    const outcomes = [
      ["ok", Exit.void],
      ["-32600", Exit.fail(missing)],
      ["-32603", Exit.die("a bug")],
      ["interrupted", Exit.failCause(Cause.interrupt(yield* Effect.fiberId))]
    ] as const
    for (const [code, exit] of outcomes) {
      const earlier = counted(code)
      answered(request({ method: "process/signal" }), exit)
      const later = counted(code)
      assert.strictEqual(later.count - earlier.count, 1, code)
      assert.approximately(later.seconds - earlier.seconds, 10, 5.1, code)
    }
  })
)
