/** The guard that cannot be started, or does not stay: how often that is tried, and how often it is said. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/TestClock"
import { Guard } from "../../src/spawn/Guard.js"

/** Guards that the test lets fail: when each was started, what it was told, and the log. */
const bench = () => {
  const starts: Array<number> = []
  const told: Array<Array<string>> = []
  const lines: Array<string> = []
  const ended: Array<number> = []
  let throws = false
  let fail: (reason: string) => void = () => {}
  const guard = (clock: { readonly unsafeCurrentTimeMillis: () => number }) =>
    Guard.layerOf((onFailure) => {
      const index = starts.push(clock.unsafeCurrentTimeMillis()) - 1
      if (throws) throw new Error("spawn EAGAIN")
      fail = onFailure
      const lines: Array<string> = []
      told.push(lines)
      return { write: (line) => void lines.push(line), end: () => void ended.push(index) }
    })
  const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
  const layer = Layer.unwrapEffect(Effect.map(Effect.clock, guard)).pipe(
    Layer.provide(Logger.replace(Logger.defaultLogger, logger))
  )
  const control = {
    fail: (reason: string) => fail(reason),
    throws: (value: boolean) => {
      throws = value
    }
  }
  return { starts, told, lines, ended, layer, ...control }
}

const failure = "the guard that ends processes if this server is killed has failed"
const leader = { pid: 7, startTime: 1 }

describe("a guard that cannot be started", () => {
  it.effect("is tried again after 200 ms, twice as long each time, and every 30 s in the end", () => {
    const { starts, layer, throws } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      yield* TestClock.adjust("2 minutes")
      const waits = starts.slice(1).map((at, i) => at - (starts[i] ?? 0))
      assert.deepStrictEqual(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000])
      // Whoever comes meanwhile does not hurry it.
      guard.register({ pid: 8, startTime: 1 })
      assert.lengthOf(starts, waits.length + 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is said once, and then once a minute with how often", () => {
    const { lines, layer, throws } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(lines, [`${failure}: Error: spawn EAGAIN`])
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(lines.slice(1), [
        `${failure} 8 more times within a minute: Error: spawn EAGAIN`,
        `${failure} 2 more times within a minute: Error: spawn EAGAIN`,
        `${failure} 2 more times within a minute: Error: spawn EAGAIN`
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that then starts is told everything, and what fails after that is said again", () => {
    const { starts, told, lines, layer, throws, fail } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      guard.addFolder("/f")
      throws(false)
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(told, [["+ 7 1\n", "f /f\n"]])
      yield* TestClock.adjust("2 minutes")
      assert.lengthOf(starts, 2)
      fail("it ended with SIGKILL")
      yield* TestClock.adjust("199 millis")
      assert.lengthOf(starts, 2)
      // The waits begin anew.
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(starts, 3)
      assert.deepStrictEqual(lines, [`${failure}: Error: spawn EAGAIN`, `${failure}: it ended with SIGKILL`])
    }).pipe(Effect.provide(layer))
  })

  it.effect("is not tried any more when the server has ended", () => {
    const { starts, ended, layer, fail } = bench()
    return Effect.gen(function* () {
      yield* Effect.provide(
        Effect.flatMap(Guard, (guard) => Effect.sync(() => guard.register(leader))),
        layer
      )
      assert.deepStrictEqual(ended, [0])
      fail("it ended with status 0")
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(starts, 1)
      yield* Effect.provide(
        Effect.flatMap(Guard, (guard) =>
          Effect.sync(() => {
            guard.register(leader)
            fail("it ended with status 2")
          })
        ),
        layer
      )
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(starts, 2)
    })
  })
})
