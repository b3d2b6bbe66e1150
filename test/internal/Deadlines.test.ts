import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { Deadlines } from "../../src/internal/Deadlines.js"

const test = (
  title: string,
  body: (deadlines: Deadlines, late: Array<string>, scope: Scope.CloseableScope) => Effect.Effect<void>
) =>
  it.effect(title, () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* body(yield* Deadlines.make(1000, scope), [], scope)
      yield* Scope.close(scope, Exit.void)
    })
  )

describe("deadlines", () => {
  test("are reached one after another, each after its time", (deadlines, late) =>
    Effect.gen(function* () {
      yield* deadlines.set(() => late.push("a"))
      yield* TestClock.adjust("400 millis")
      yield* deadlines.set(() => late.push("b"))
      yield* TestClock.adjust("599 millis")
      assert.deepStrictEqual(late, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(late, ["a"])
      yield* TestClock.adjust("399 millis")
      assert.deepStrictEqual(late, ["a"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(late, ["a", "b"])
    }))

  test("that are taken back are not reached, and later ones are", (deadlines, late) =>
    Effect.gen(function* () {
      const takeBack = yield* deadlines.set(() => late.push("a"))
      yield* TestClock.adjust("900 millis")
      takeBack()
      yield* deadlines.set(() => late.push("b"))
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(late, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(late, ["b"])
      yield* TestClock.adjust("10 seconds")
      yield* deadlines.set(() => late.push("c"))
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(late, ["b", "c"])
    }))

  test("may set and take back others when they are reached", (deadlines, late) =>
    Effect.gen(function* () {
      let takeBack = () => {}
      yield* deadlines.set(() => {
        late.push("a")
        takeBack()
      })
      takeBack = yield* deadlines.set(() => late.push("b"))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(late, ["a"])
    }))

  test("are not reached once the scope has closed", (deadlines, late, scope) =>
    Effect.gen(function* () {
      yield* deadlines.set(() => late.push("a"))
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(late, [])
    }))
})
