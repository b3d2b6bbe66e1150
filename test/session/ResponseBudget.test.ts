import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { ResponseBudget } from "../../src/session/ResponseBudget.js"
import { settle } from "../support/fake.js"

const mib = 1048576

const bench = Effect.sync(() => {
  let full = false
  const budget = new ResponseBudget(() => full)
  const granted: Array<string> = []
  const reserve = (name: string, bytes: number) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const fiber = yield* Effect.fork(
        Effect.zipRight(
          Scope.extend(budget.reserve(bytes), scope),
          Effect.sync(() => granted.push(name))
        )
      )
      yield* settle
      const end = Effect.zipRight(Fiber.interrupt(fiber), Scope.close(scope, Exit.void)).pipe(Effect.zipLeft(settle))
      return { end }
    })
  const setFull = (value: boolean) =>
    Effect.zipRight(
      Effect.sync(() => {
        full = value
        budget.advance()
      }),
      settle
    )
  return { granted, reserve, setFull }
})

it.effect("grants in order, and gets bytes back", () =>
  Effect.gen(function* () {
    const { granted, reserve } = yield* bench
    const a = yield* reserve("a", 5 * mib)
    const b = yield* reserve("b", 3 * mib)
    const c = yield* reserve("c", 1 * mib)
    yield* reserve("d", 1)
    assert.deepStrictEqual(granted, ["a", "b"], "nobody overtakes, also who would fit")
    yield* a.end
    assert.deepStrictEqual(granted, ["a", "b", "c", "d"])
    yield* b.end
    yield* c.end
  })
)

it.effect("what is larger than the whole budget is granted alone", () =>
  Effect.gen(function* () {
    const { granted, reserve } = yield* bench
    const small = yield* reserve("small", 1)
    const large = yield* reserve("large", 512 * mib)
    yield* reserve("next", 1)
    assert.deepStrictEqual(granted, ["small"])
    yield* small.end
    assert.deepStrictEqual(granted, ["small", "large"])
    yield* large.end
    assert.deepStrictEqual(granted, ["small", "large", "next"])
  })
)

it.effect("waits while earlier responses have not left; who stops waiting is forgotten", () =>
  Effect.gen(function* () {
    const { granted, reserve, setFull } = yield* bench
    yield* setFull(true)
    const first = yield* reserve("first", 9 * mib)
    yield* reserve("second", 1)
    yield* first.end
    assert.deepStrictEqual(granted, [])
    yield* setFull(false)
    assert.deepStrictEqual(granted, ["second"])
    yield* reserve("third", 8 * mib - 1)
    assert.deepStrictEqual(granted, ["second", "third"], "what was never granted is not released")
  })
)
