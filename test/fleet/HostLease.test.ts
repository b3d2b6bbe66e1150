/** A host's own clock of its lease. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as HostLease from "../../src/fleet/HostLease.js"

const isDone = (fiber: Fiber.RuntimeFiber<void>) => Effect.map(Fiber.poll(fiber), ({ _tag }) => _tag === "Some")

it.effect("it lapses a lease after the last time that a gateway was heard, and never before the first", () =>
  Effect.gen(function* () {
    const { heard, lapsed } = HostLease.make(15_000)
    const fiber = yield* Effect.fork(lapsed)
    yield* TestClock.adjust("1 minute")
    assert.isFalse(yield* isDone(fiber))
    for (let i = 0; i < 5; i++) {
      assert.isTrue(yield* heard)
      yield* TestClock.adjust("14 seconds")
    }
    assert.isFalse(yield* isDone(fiber))
    yield* TestClock.adjust("2 seconds")
    assert.isTrue(yield* isDone(fiber))
  })
)

it.effect("what was sent before a long stop, and is read after it, does not renew it", () =>
  Effect.gen(function* () {
    const { heard, reset, setMs } = HostLease.make(15_000)
    setMs(5000)
    yield* heard
    yield* TestClock.adjust("5001 millis")
    assert.isFalse(yield* heard)
    assert.isFalse(yield* heard, "it stays lapsed")
    yield* reset
    assert.isTrue(yield* heard, "a new incarnation begins anew")
  })
)
