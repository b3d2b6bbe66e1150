import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { AnswerRoom } from "../../src/session/AnswerRoom.js"
import { settle } from "../support/fake.js"

const mib = 1048576

const bench = Effect.sync(() => {
  let full = false
  const room = new AnswerRoom(() => full)
  const granted: Array<string> = []
  const take = (name: string, bytes: number) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const fiber = yield* Effect.fork(
        Effect.zipRight(
          Scope.extend(room.take(bytes), scope),
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
        room.look()
      }),
      settle
    )
  return { granted, take, setFull }
})

it.effect("takes turns, and gives room back", () =>
  Effect.gen(function* () {
    const { granted, take } = yield* bench
    const a = yield* take("a", 5 * mib)
    const b = yield* take("b", 3 * mib)
    const c = yield* take("c", 1 * mib)
    yield* take("d", 1)
    assert.deepStrictEqual(granted, ["a", "b"], "nobody overtakes, also who would fit")
    yield* a.end
    assert.deepStrictEqual(granted, ["a", "b", "c", "d"])
    yield* b.end
    yield* c.end
  })
)

it.effect("what is larger than all the room is alone in it", () =>
  Effect.gen(function* () {
    const { granted, take } = yield* bench
    const small = yield* take("small", 1)
    const large = yield* take("large", 512 * mib)
    yield* take("next", 1)
    assert.deepStrictEqual(granted, ["small"])
    yield* small.end
    assert.deepStrictEqual(granted, ["small", "large"])
    yield* large.end
    assert.deepStrictEqual(granted, ["small", "large", "next"])
  })
)

it.effect("waits while earlier answers have not left; who stops waiting is forgotten", () =>
  Effect.gen(function* () {
    const { granted, take, setFull } = yield* bench
    yield* setFull(true)
    const first = yield* take("first", 9 * mib)
    yield* take("second", 1)
    yield* first.end
    assert.deepStrictEqual(granted, [])
    yield* setFull(false)
    assert.deepStrictEqual(granted, ["second"])
    yield* take("third", 8 * mib - 1)
    assert.deepStrictEqual(granted, ["second", "third"], "what was never held is not given back")
  })
)
