/** Layers put together in order: what each is given, built once, closed in reverse; what is missing shows in the type. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { inOrder, provideInOrder } from "../../src/internal/Wiring.js"

class First extends Context.Tag("First")<First, string>() {}
class Second extends Context.Tag("Second")<Second, string>() {}
class Third extends Context.Tag("Third")<Third, string>() {}

const make = (log: Array<string>, name: string, on: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      log.push(`open ${name}`)
      return on === "" ? name : `${name} on ${on}`
    }),
    () => Effect.sync(() => log.push(`close ${name}`))
  )

const layers = (log: Array<string>) => ({
  first: Layer.scoped(First, make(log, "first", "")),
  second: Layer.scoped(
    Second,
    Effect.flatMap(First, (first) => make(log, "second", first))
  ),
  third: Layer.scoped(
    Third,
    Effect.flatMap(Effect.all([First, Second]), ([first, second]) => make(log, "third", `${first}, ${second}`))
  )
})

describe("provideInOrder", () => {
  it.effect("gives each layer what those before it give, and ends them in reverse", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second, third } = layers(log)
      const whole: Layer.Layer<Third> = third.pipe(provideInOrder(first, second))
      assert.strictEqual(yield* Effect.provide(Third, whole), "third on first, second on first")
      assert.deepStrictEqual(log.slice(0, 3), ["open first", "open second", "open third"])
      assert.deepStrictEqual(log.slice(3), ["close third", "close second", "close first"])
    })
  )

  it.effect("builds a layer once, however often it is given", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second, third } = layers(log)
      const whole = Layer.merge(
        second.pipe(provideInOrder(first)),
        third.pipe(provideInOrder(second.pipe(provideInOrder(first)), first))
      )
      yield* Effect.scoped(Layer.build(whole))
      assert.deepStrictEqual(
        log.filter((line) => line.startsWith("open")),
        ["open first", "open second", "open third"]
      )
    })
  )

  it.effect("needs what nobody before a layer gives, and no more", () =>
    Effect.gen(function* () {
      const { first, second, third } = layers([])
      const needsFirst: Layer.Layer<Third, never, First> = third.pipe(provideInOrder(second))
      assert.strictEqual(
        yield* Effect.provide(Third, Layer.provide(needsFirst, first)),
        "third on first, second on first"
      )
      // @ts-expect-error: the second layer comes before the first, which it needs.
      const wrong: Layer.Layer<Third> = third.pipe(provideInOrder(second, first))
      assert.isTrue(Layer.isLayer(wrong))
    })
  )

  it.effect("fails as the layer that fails, and ends those before it", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, third } = layers(log)
      const failing = Layer.effect(Second, Effect.fail("no second"))
      const whole: Layer.Layer<Third, string> = third.pipe(provideInOrder(first, failing))
      assert.strictEqual(yield* Effect.flip(Effect.provide(Third, whole)), "no second")
      assert.deepStrictEqual(log, ["open first", "close first"])
    })
  )
})

describe("inOrder", () => {
  it.effect("gives what all layers give, each built with those before it, and nothing that was there before", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second, third } = layers(log)
      const whole: Layer.Layer<Second | Third, never, First> = inOrder(second, third)
      const made = yield* Effect.scoped(Effect.provide(Layer.build(whole), first))
      assert.strictEqual(Context.get(made, Third), "third on first, second on first")
      assert.sameMembers(Array.from(made.unsafeMap.keys()), [Second.key, Third.key])
      assert.deepStrictEqual(log.slice(0, 3), ["open first", "open second", "open third"])
    })
  )
})
