import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Verbose from "../../src/internal/Verbose.js"

describe("a line for debugging", () => {
  const logged = (level: LogLevel.LogLevel) =>
    Effect.gen(function* () {
      const lines: Array<unknown> = []
      let asked = 0
      const logger = Logger.make(({ message, annotations }) => {
        lines.push(message, ...HashMap.toEntries(annotations))
      })
      yield* Verbose.debug("opened", () => ({ n: ++asked })).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(level)
      )
      return { lines, asked }
    })

  it.effect("is written with its annotations where it is wanted", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* logged(LogLevel.Debug), { lines: [["opened"], ["n", 1]], asked: 1 })
    })
  )

  it.effect("is not even made elsewhere", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* logged(LogLevel.Info), { lines: [], asked: 0 })
    })
  )
})
