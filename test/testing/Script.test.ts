/** Children that follow a script, seen through a whole server and its client. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as HeadTail from "../../src/client/HeadTail.js"
import { FakeSpawner, type Plan } from "../../src/testing/FakeSpawner.js"
import * as Script from "../../src/testing/Script.js"
import { clientOf } from "../support/composed.js"
import { failureOf, settle } from "../support/fake.js"

/** A client of a server whose children follow a plan; what the default services are is not touched. */
const layer = (plan: Plan) => clientOf(FakeSpawner.layerOf(plan))

const start = Effect.gen(function* () {
  const client = yield* ExecClient.ExecClient
  return yield* client.start({ argv: ["program"], cwd: "/", tty: true })
})

describe("a script", () => {
  it.scoped("goes by the test's clock, and by nothing else", () =>
    Effect.gen(function* () {
      const child = yield* start
      const window = yield* Effect.fork(child.collectFor({ duration: 1000, maxBytes: 100 }))
      yield* settle
      yield* TestClock.adjust(999)
      yield* settle
      assert.isNull(window.unsafePoll())
      yield* TestClock.adjust(1)
      const first = yield* Fiber.join(window)
      assert.deepStrictEqual(HeadTail.bytesOf(first.output).toString(), "one\n")
      assert.isUndefined(first.exit)
      yield* TestClock.adjust(4000)
      const { exitCode, signal } = yield* child.closed
      assert.deepStrictEqual([exitCode, signal], [3, null])
      const rest = yield* child.collectFor({ duration: 1, maxBytes: 100 })
      assert.deepStrictEqual([HeadTail.bytesOf(rest.output).toString(), rest.closed], ["two\n", true])
    }).pipe(
      // Given in any order.
      Effect.provide(
        layer(Script.plan([Script.exit(5000, 3), Script.output(500, "one\n"), Script.output(2000, "two\n")]))
      )
    )
  )

  it.scoped("ends with the child that is killed in the middle of it", () =>
    Effect.gen(function* () {
      const child = yield* start
      yield* child.signal("SIGTERM")
      yield* settle
      yield* TestClock.adjust(10_000)
      const { exitCode, signal } = yield* child.exit
      assert.deepStrictEqual([exitCode, signal], [137, "SIGKILL"])
      assert.strictEqual((yield* child.communicate()).terminal.head.toString(), "")
    }).pipe(
      Effect.provide(
        layer(
          Script.plan([Script.output(20_000, "never")], {
            ...Script.ignoresSignals,
            onSignal: (child, signal, target) => {
              // Asked once, killed by whoever loses patience.
              if (signal === "SIGTERM") child.die("SIGKILL")
              else Script.ignoresSignals.onSignal?.(child, signal, target)
            }
          })
        )
      )
    )
  )

  it.scoped("can leave something behind that holds the output", () =>
    Effect.gen(function* () {
      const child = yield* start
      yield* TestClock.adjust(10)
      yield* settle
      assert.deepStrictEqual((yield* child.wait({ duration: 0 })).closed, false)
      assert.strictEqual((yield* child.exit).exitCode, 7)
      yield* TestClock.adjust(10)
      assert.strictEqual((yield* child.closed).exitCode, 7)
      assert.strictEqual((yield* child.communicate()).terminal.head.toString(), "late")
    }).pipe(Effect.provide(layer(Script.plan([Script.leave(10, 7), Script.output(15, "late"), Script.outputEnd(20)]))))
  )

  it.scoped("can be that nothing starts", () =>
    Effect.gen(function* () {
      const error = yield* failureOf(start)
      assert.deepStrictEqual(
        [error._tag, error.message],
        ["ServerError", "exec-server rejected request (-32603): No such file or directory (os error 2): program"]
      )
    }).pipe(Effect.provide(layer(Script.failsToStart("No such file or directory (os error 2)"))))
  )
})
