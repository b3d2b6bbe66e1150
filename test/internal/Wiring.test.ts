/** Layers put together in order: what each is given, built once, closed in reverse; what is missing shows in the type. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { buildAtOnce, inOrder, provideAtOnce, provideInOrder, tapErrorCause } from "../../src/internal/Wiring.js"

class First extends Context.Tag("First")<First, string>() {}
class Second extends Context.Tag("Second")<Second, string>() {}
class Third extends Context.Tag("Third")<Third, string>() {}

class Later extends Context.Tag("Later")<Later, Effect.Effect<unknown>>() {}

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

describe("provideAtOnce", () => {
  it.effect("gives each layer what those before it give, builds each once, and ends them in reverse", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second, third } = layers(log)
      const program = Third.pipe(
        Effect.tap(() => Effect.sync(() => log.push("run"))),
        provideAtOnce(Layer.empty, first, second.pipe(provideInOrder(first)), third.pipe(provideInOrder(second, first)))
      )
      assert.strictEqual(yield* program, "third on first, second on first")
      assert.deepStrictEqual(log.slice(0, 4), ["open first", "open second", "open third", "run"])
      assert.deepStrictEqual(log.slice(4), ["close third", "close second", "close first"])
    })
  )

  it.effect("builds layers that Effect puts together as well", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second, third } = layers(log)
      const lazy = Layer.unwrapEffect(
        Effect.map(
          Effect.promise(() => Promise.resolve()),
          () => second
        )
      )
      const made = yield* Effect.scoped(
        buildAtOnce(
          first,
          lazy,
          Layer.map(third, (context) => context)
        )
      )
      assert.strictEqual(Context.get(made, Third), "third on first, second on first")
      assert.deepStrictEqual(log.slice(3), ["close third", "close second", "close first"])
    })
  )

  it.effect("keeps what a layer sets in the fiber, such as loggers, for those after it and for the program", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const look = Effect.map(FiberRef.get(FiberRef.currentMinimumLogLevel), (level) => seen.push(level))
      yield* look.pipe(
        provideAtOnce(
          Logger.minimumLogLevel(LogLevel.Fatal),
          Layer.effectDiscard(look),
          inOrder(Layer.effectDiscard(look))
        )
      )
      assert.deepStrictEqual(seen, [LogLevel.Fatal, LogLevel.Fatal, LogLevel.Fatal])
      assert.notStrictEqual(yield* FiberRef.get(FiberRef.currentMinimumLogLevel), LogLevel.Fatal)
    })
  )

  it.effect("fails as the layer that fails: tapErrorCause is told before those before it are closed", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, third } = layers(log)
      const failing = tapErrorCause(Layer.effect(Second, Effect.fail("no second")), () =>
        Effect.sync(() => log.push("told"))
      )
      const program: Effect.Effect<string, string> = Third.pipe(provideAtOnce(first, failing, third))
      assert.strictEqual(yield* Effect.flip(program), "no second")
      assert.deepStrictEqual(log, ["open first", "told", "close first"])
    })
  )

  it.effect("a layer that a service builds later, in a scope of its own, is built there each time", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { first, second } = layers(log)
      const later = Layer.effect(
        Third,
        Effect.map(Effect.context<never>(), () => "third")
      )
      const builder = Layer.effect(
        Later,
        Effect.map(Effect.context<never>(), (context) =>
          Effect.provide(Effect.scoped(Layer.build(second.pipe(provideInOrder(first)))), context)
        )
      )
      yield* Effect.flatten(Later).pipe(Effect.repeatN(1), provideAtOnce(later, builder))
      assert.lengthOf(
        log.filter((line) => line === "open first"),
        2
      )
    })
  )
})
