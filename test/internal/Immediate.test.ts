import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Immediate from "../../src/internal/Immediate.js"

class Name extends Context.Reference<Name>()("test/Name", { defaultValue: () => "nobody" }) {}

const named = Context.make(Name, "somebody")
const greeting = Immediate.make((context) => Exit.succeed(`hello ${Context.get(context, Name)}`))
const failing: Effect.Effect<string, string> = Immediate.make(() => Exit.fail("no"))

describe("an immediate effect", () => {
  it("ends where it is begun, with the context that it is given", () => {
    const left = Immediate.begin(greeting, named)
    assert.isTrue(Immediate.hasEnded(left))
    assert.deepStrictEqual(left, Exit.succeed("hello somebody"))
  })

  it("is begun anew each time, and not when it is made", () => {
    let count = 0
    const counting = Immediate.sync(() => ++count)
    assert.strictEqual(count, 0)
    Immediate.begin(counting, named)
    assert.deepStrictEqual(Immediate.begin(counting, named), Exit.succeed(2))
  })

  it.effect("is an effect like any other in a fiber", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* greeting, "hello nobody")
      assert.strictEqual(yield* Effect.provide(greeting, named), "hello somebody")
      assert.strictEqual(yield* Effect.flip(failing), "no")
      const defect = new Error("a bug")
      const dying = Immediate.make(() => {
        throw defect
      })
      assert.deepStrictEqual(yield* Effect.exit(dying), Exit.die(defect))
    })
  )

  it("goes on with a value, and ends with a failure", () => {
    const long = Immediate.flatMap(greeting, (text) =>
      Immediate.map(
        Immediate.sync(() => text.length),
        (n) => n + 1
      )
    )
    assert.deepStrictEqual(Immediate.begin(long, named), Exit.succeed(15))
    let reached = false
    const never = Immediate.map(failing, () => {
      reached = true
    })
    assert.deepStrictEqual(Immediate.begin(never, named), Exit.fail("no"))
    assert.isFalse(reached)
  })

  it.effect("leaves what needs a fiber", () =>
    Effect.gen(function* () {
      const slow = Immediate.flatMap(
        Immediate.map(Effect.yieldNow(), () => "late"),
        (text) => Exit.succeed(`${text}!`)
      )
      const left = Immediate.begin(slow, named)
      assert.isFalse(Immediate.hasEnded(left))
      assert.strictEqual(yield* left, "late!")
    })
  )
})
