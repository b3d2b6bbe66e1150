import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { FiberGroup } from "../../src/internal/FiberGroup.js"

const isInterrupted = (exit: Exit.Exit<unknown, unknown>) => Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)

describe("a group of fibers", () => {
  it.effect("ends with its scope, which waits for the ends of all", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const group = yield* FiberGroup.make(scope)
      const ends: Array<string> = []
      const running = (name: string) =>
        Effect.runFork(
          Effect.onInterrupt(Effect.never, () =>
            Effect.zipRight(
              Effect.yieldNow(),
              Effect.sync(() => ends.push(name))
            )
          )
        )
      const over = Effect.runFork(Effect.succeed("over"))
      for (const fiber of [running("a"), over, running("b")]) group.add(fiber)
      assert.isFalse(group.isClosed)
      yield* Scope.close(scope, Exit.void)
      assert.sameMembers(ends, ["a", "b"])
      assert.isTrue(group.isClosed)
      assert.deepStrictEqual(yield* Fiber.await(over), Exit.succeed("over"))
    })
  )

  it.effect("whatever joins it later is interrupted at once", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const group = yield* FiberGroup.make(scope)
      yield* Scope.close(scope, Exit.void)
      const late = Effect.runFork(Deferred.await(yield* Deferred.make<void>()))
      group.add(late)
      assert.isTrue(isInterrupted(yield* Fiber.await(late)))
    })
  )
})
