/** What a connection's HTTP exchanges may take of the server, and the order of what they tell. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { BodyEvents } from "../../src/http/Exchange.js"
import type { Limits } from "../../src/http/HttpLimits.js"
import { type HttpBodyDelta, maxBodyDeltaBytes } from "../../src/protocol/HttpApi.js"
import { HttpExchanges } from "../../src/session/HttpExchanges.js"
import { highWaterBytes } from "../../src/session/Peer.js"
import { failureOf, fill, settle } from "../support/fake.js"

/** The exchanges of a connection, and what its client is told. */
const bench = (limits: Partial<Limits> = {}) => {
  const told: Array<HttpBodyDelta> = []
  const state = { waiting: 0, onDelta: (_: HttpBodyDelta) => {} }
  const send = (delta: HttpBodyDelta) => {
    told.push(delta)
    state.onDelta(delta)
  }
  const exchanges = new HttpExchanges(
    { send, buffered: () => state.waiting },
    { maxHttpRequestsPerConnection: 2, httpBufferBytesPerConnection: 10, ...limits }
  )
  return { exchanges, told, state }
}

/** A response whose body the test reports. */
const response = () => {
  const calls: Array<string> = []
  let events: BodyEvents | undefined
  const body = {
    listen: (given: BodyEvents) => {
      events = given
    },
    pause: () => void calls.push("pause"),
    resume: () => void calls.push("resume")
  }
  const run = Effect.as(
    Effect.addFinalizer(() => Effect.sync(() => calls.push("closed"))),
    { status: 200, headers: [], body }
  )
  const report = (): BodyEvents => {
    if (events === undefined) throw new Error("nobody listens to the body")
    return events
  }
  return { run, calls, report, isHeard: () => events !== undefined }
}

/** Begins an exchange; its fiber ends with the answer. */
const answered = <A, E>(exchange: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(exchange)
    yield* settle
    return fiber
  })

describe("the number of exchanges", () => {
  it.effect("is limited, streamed or not; each end makes room for one", () =>
    Effect.gen(function* () {
      const { exchanges } = bench()
      const [first, second] = [response(), response()]
      const whole = yield* answered(exchanges.buffer(first.run))
      yield* Effect.asVoid(answered(exchanges.stream("s", second.run)))
      const unasked = response()
      const refusals = [
        yield* failureOf(exchanges.buffer(unasked.run)),
        yield* failureOf(exchanges.stream("r", unasked.run))
      ]
      for (const { message } of refusals) assert.include(message, "maxHttpRequestsPerConnection (2)")
      assert.deepStrictEqual(unasked.calls, [], "what is refused is not begun")
      first.report().onEnd()
      assert.strictEqual((yield* Fiber.join(whole)).bodyBase64.length, 0)
      assert.deepStrictEqual(first.calls, ["closed"])
      const third = response()
      yield* answered(exchanges.stream("r", third.run))
      assert.isTrue(third.isHeard(), "the id of a refused stream is free")
      yield* failureOf(exchanges.buffer(unasked.run))
      second.report().onEnd()
      yield* settle
      yield* answered(exchanges.buffer(response().run))
      yield* failureOf(exchanges.buffer(unasked.run))
    })
  )

  it.effect("counts none that was interrupted before its headers, and frees its id", () =>
    Effect.gen(function* () {
      const { exchanges } = bench({ maxHttpRequestsPerConnection: 1 })
      const waiting = yield* answered(exchanges.stream("s", Effect.never))
      yield* Fiber.interrupt(waiting)
      const next = response()
      yield* answered(exchanges.stream("s", next.run))
      assert.isTrue(next.isHeard())
    })
  )
})

describe("a cancelled exchange", () => {
  it.effect("fails before its response; its id and its place are free", () =>
    Effect.gen(function* () {
      const { exchanges } = bench({ maxHttpRequestsPerConnection: 1 })
      const waiting = yield* answered(exchanges.stream("s", Effect.never))
      yield* exchanges.cancel("s")
      assert.strictEqual((yield* failureOf(Fiber.join(waiting))).message, "http/request was cancelled")
      const next = response()
      yield* answered(exchanges.stream("s", next.run))
      assert.isTrue(next.isHeard())
    })
  )

  it.effect("is closed in the middle of its body, once; an unknown id changes nothing", () =>
    Effect.gen(function* () {
      const { exchanges, told } = bench()
      const streamed = response()
      yield* answered(exchanges.stream("s", streamed.run))
      streamed.report().onData(fill(3))
      yield* exchanges.cancel("r")
      assert.deepStrictEqual(streamed.calls, [])
      yield* exchanges.cancel("s")
      yield* exchanges.cancel("s")
      assert.deepStrictEqual(streamed.calls, ["closed"])
      assert.strictEqual(told.length, 1)
    })
  )
})

describe("bodies that are not streamed", () => {
  it.effect("may be as large as the limit says, together", () =>
    Effect.gen(function* () {
      const { exchanges } = bench()
      const [first, second] = [response(), response()]
      const one = yield* answered(exchanges.buffer(first.run))
      const other = yield* answered(exchanges.buffer(second.run))
      first.report().onData(Buffer.from("abc"))
      first.report().onData(Buffer.from("d"))
      second.report().onData(Buffer.from("123456"))
      first.report().onEnd()
      assert.strictEqual((yield* Fiber.join(one)).bodyBase64.toString(), "abcd")
      second.report().onData(Buffer.from("7890"))
      second.report().onEnd()
      assert.strictEqual((yield* Fiber.join(other)).bodyBase64.toString(), "1234567890", "what had ended holds nothing")
    })
  )

  it.effect("are refused one byte above it, read no further, and leave all room to the next", () =>
    Effect.gen(function* () {
      const { exchanges } = bench()
      const large = response()
      const refused = yield* answered(exchanges.buffer(large.run))
      large.report().onData(fill(10))
      assert.deepStrictEqual(large.calls, [])
      large.report().onData(fill(1))
      assert.deepStrictEqual(large.calls, ["pause"])
      const { message } = yield* failureOf(Fiber.join(refused))
      assert.include(message, "httpBufferBytesPerConnection (10)")
      assert.deepStrictEqual(large.calls, ["pause", "closed"])
      const next = response()
      const fiber = yield* answered(exchanges.buffer(next.run))
      next.report().onData(fill(10))
      next.report().onEnd()
      assert.strictEqual((yield* Fiber.join(fiber)).bodyBase64.length, 10)
    })
  )

  it.effect("that break off fail, with the reason, and hold nothing", () =>
    Effect.gen(function* () {
      const { exchanges } = bench()
      const broken = response()
      const fiber = yield* answered(exchanges.buffer(broken.run))
      broken.report().onData(fill(10))
      broken.report().onError("it broke")
      const { message } = yield* failureOf(Fiber.join(fiber))
      assert.strictEqual(message, "failed to read http/request response body: it broke")
      const next = response()
      const after = yield* answered(exchanges.buffer(next.run))
      next.report().onData(fill(10))
      next.report().onEnd()
      yield* Fiber.join(after)
    })
  )
})

describe("a streamed body", () => {
  it.effect("comes after the answer, in pieces of limited size, numbered from 1, the end last", () =>
    Effect.gen(function* () {
      const { exchanges, told } = bench()
      const { run, report, isHeard } = response()
      const heardAtAnswer: Array<boolean> = []
      const exchange = Effect.tap(exchanges.stream("s", run), () => Effect.sync(() => heardAtAnswer.push(isHeard())))
      const { status, bodyBase64 } = yield* Fiber.join(yield* answered(exchange))
      assert.deepStrictEqual([status, bodyBase64.length, heardAtAnswer[0]], [200, 0, false])
      report().onData(fill(maxBodyDeltaBytes))
      report().onData(Buffer.concat([fill(maxBodyDeltaBytes), Buffer.from("rest")]))
      report().onEnd()
      assert.deepStrictEqual(
        told.map(({ requestId, seq, deltaBase64, done, error }) => [requestId, seq, deltaBase64.length, done, error]),
        [
          ["s", 1, maxBodyDeltaBytes, false, null],
          ["s", 2, maxBodyDeltaBytes, false, null],
          ["s", 3, 4, false, null],
          ["s", 4, 0, true, null]
        ]
      )
      assert.strictEqual(told[2]?.deltaBase64.toString(), "rest")
    })
  )

  it.effect("frees its id before its client hears of its end", () =>
    Effect.gen(function* () {
      const { exchanges, told, state } = bench()
      const first = response()
      const second = response()
      yield* answered(exchanges.stream("s", first.run))
      const { message } = yield* failureOf(exchanges.stream("s", second.run))
      assert.include(message, "`s` is already active")
      assert.deepStrictEqual(second.calls, [])
      let exit: Exit.Exit<unknown, unknown> | undefined
      state.onDelta = () => {
        state.onDelta = () => {}
        exit = Effect.runSyncExit(exchanges.stream("s", second.run))
      }
      first.report().onError("it broke")
      yield* settle
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit))
      assert.isTrue(second.isHeard())
      assert.deepStrictEqual([told[0]?.done, told[0]?.error], [true, "it broke"])
      assert.deepStrictEqual(first.calls, ["closed"])
    })
  )

  it.effect("is aborted when its connection ends, with every other, begun or not", () =>
    Effect.gen(function* () {
      const { exchanges, told } = bench({ maxHttpRequestsPerConnection: 3 })
      const [first, second, late] = [response(), response(), response()]
      yield* answered(exchanges.stream("1", first.run))
      yield* answered(exchanges.stream("2", second.run))
      // Its headers are there, and it is not answered yet.
      yield* answered(Effect.zipRight(exchanges.stream("3", late.run), exchanges.end))
      assert.deepStrictEqual([first.calls, second.calls, late.calls], [["closed"], ["closed"], ["closed"]])
      assert.isFalse(late.isHeard(), "what has ended is not read")
      assert.deepStrictEqual(told, [])
    })
  )
})

describe("a client that does not read", () => {
  it.effect("stops the bodies that are read for it, streamed or not, and takes them up again", () =>
    Effect.gen(function* () {
      const { exchanges, state } = bench()
      const [streamed, whole] = [response(), response()]
      yield* answered(exchanges.stream("s", streamed.run))
      yield* answered(exchanges.buffer(whole.run))
      state.waiting = highWaterBytes
      streamed.report().onData(fill(1))
      whole.report().onData(fill(1))
      assert.deepStrictEqual([streamed.calls, whole.calls], [[], []])
      state.waiting = highWaterBytes + 1
      streamed.report().onData(fill(1))
      whole.report().onData(fill(1))
      assert.deepStrictEqual([streamed.calls, whole.calls], [["pause"], ["pause"]])
      exchanges.onDrain()
      exchanges.onDrain()
      assert.deepStrictEqual(
        [streamed.calls, whole.calls],
        [
          ["pause", "resume"],
          ["pause", "resume"]
        ]
      )
    })
  )

  it.effect("does not have a body taken up again that is over", () =>
    Effect.gen(function* () {
      const { exchanges, state } = bench()
      const [streamed, whole] = [response(), response()]
      yield* answered(exchanges.stream("s", streamed.run))
      yield* answered(exchanges.buffer(whole.run))
      state.waiting = highWaterBytes + 1
      for (const { report } of [streamed, whole]) {
        report().onData(fill(1))
        report().onError("it broke")
      }
      yield* settle
      exchanges.onDrain()
      assert.deepStrictEqual(
        [streamed.calls, whole.calls],
        [
          ["pause", "closed"],
          ["pause", "closed"]
        ]
      )
    })
  )
})
