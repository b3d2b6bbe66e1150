/** A host's own clock of its lease. */
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as HostLease from "../../src/fleet/HostLease.js"
import { random } from "../support/random.js"

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

it.effect("setting the machine's clock neither ends nor prolongs it", () =>
  Effect.gen(function* () {
    const { heard, lapsed } = HostLease.make(15_000)
    let offsetMs = 0
    const clock = yield* Effect.clock
    const shifted: Clock.Clock = Object.create(clock, {
      unsafeCurrentTimeMillis: { value: () => clock.unsafeCurrentTimeMillis() + offsetMs },
      currentTimeMillis: { value: Effect.map(clock.currentTimeMillis, (now) => now + offsetMs) },
      unsafeCurrentTimeNanos: { value: () => clock.unsafeCurrentTimeNanos() }
    })
    const fiber = yield* Effect.fork(Effect.withClock(lapsed, shifted))
    assert.isTrue(yield* Effect.withClock(heard, shifted))
    offsetMs = 3_600_000
    yield* TestClock.adjust("1 second")
    assert.isFalse(yield* isDone(fiber))
    assert.isTrue(yield* Effect.withClock(heard, shifted))
    offsetMs = -3_600_000
    yield* TestClock.adjust("16 seconds")
    assert.isTrue(yield* isDone(fiber))
    assert.isFalse(yield* Effect.withClock(heard, shifted))
  })
)

for (const seed of [1, 2, 3]) {
  it.effect(`a host serves at no time at which gateways may have declared it lost, seed ${seed}`, () =>
    Effect.gen(function* () {
      const leaseMs = 15_000
      const next = random(seed)
      const { heard, reset } = HostLease.make(leaseMs)
      /** When the directory's lease ends: it is renewed after the host has answered, never before. */
      let leaseUntil = Number.POSITIVE_INFINITY
      let losses = 0
      for (let step = 0; step < 200; step++) {
        // Most beats come in time. Some are lost, and at times the host or the network stands still.
        const pauseMs = next() < 0.8 ? Math.floor(next() * 3000) : Math.floor(next() * leaseMs * 1.5)
        yield* TestClock.adjust(pauseMs)
        const now = yield* Clock.currentTimeMillis
        const isOver = now > leaseUntil
        if (yield* heard) {
          assert.isFalse(isOver, "it answers although it may be lost")
          leaseUntil = now + leaseMs
          continue
        }
        losses++
        assert.isTrue(isOver, "it gives up although it was heard in time")
        yield* reset
        leaseUntil = Number.POSITIVE_INFINITY
      }
      assert.isAbove(losses, 0)
    })
  )
}
