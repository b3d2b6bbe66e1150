/** Log lines, as somebody who reads them at a terminal gets them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Logging from "../../src/server/Logging.js"

const hostile = "\u001b]0;owned\u0007\u009b31m\u202e"

describe("a log line", () => {
  for (const [format, logger] of Object.entries({ text: Logging.text, json: Logging.json })) {
    it.effect(`as ${format} has no control characters, whatever a client is called`, () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const collect = Logger.map(logger, (line) => void lines.push(line))
        yield* Effect.logInfo(hostile, "a\nb").pipe(
          Effect.annotateLogs({ client: hostile }),
          Effect.provide(Logger.replace(Logger.defaultLogger, collect))
        )
        assert.lengthOf(lines, 1)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        assert.notMatch(lines[0] ?? "", /[\u0000-\u001f\u007f-\u009f\u202e]/)
        assert.include(lines[0] ?? "", "owned")
      })
    )
  }
})
