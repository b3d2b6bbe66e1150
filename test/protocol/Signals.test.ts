import { constants } from "node:os"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { formatParseError } from "../../src/protocol/Schemas.js"
import * as Signals from "../../src/protocol/Signals.js"

const params = Schema.Struct({ signal: Signals.SignalName })
const decode = (signal: unknown) => Either.mapLeft(Schema.decodeUnknownEither(params)({ signal }), formatParseError)

describe("SignalName", () => {
  it("interrupt is the original's word for SIGINT", () => {
    assert.deepStrictEqual(decode("interrupt"), Either.right({ signal: "SIGINT" }))
  })

  for (const name of ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGKILL", "SIGSTOP", "SIGWINCH"]) {
    it(`${name} is itself`, () => {
      const signal = Either.getOrThrow(decode(name)).signal as string
      assert.strictEqual(signal, name)
    })
  }

  for (const word of ["term", "TERM", "sigterm", "SIGNOPE", "", "9", "constructor", "__proto__"]) {
    it(`${JSON.stringify(word)} is refused in the original's words, which name the field`, () => {
      const message = Either.getOrThrow(Either.flip(decode(word)))
      assert.include(message, `unknown variant \`${word}\`, expected \`interrupt\``)
      assert.include(message, "signal")
    })
  }

  it("a decoded signal that is none is refused with its name", () => {
    const encoded = Schema.encodeUnknownEither(params)({ signal: "SIGNOPE" })
    const message = Either.getOrThrow(Either.flip(Either.mapLeft(encoded, formatParseError)))
    assert.include(message, "unknown signal `SIGNOPE`, expected a POSIX name such as `SIGTERM`")
    assert.include(message, "signal")
  })

  it("a number is not a name", () => {
    assert.include(Either.getOrThrow(Either.flip(decode(9))), "invalid type: number, expected a string")
  })
})

describe("names and numbers", () => {
  it("every number of the system has the name that has the number", () => {
    for (const number of new Set(Object.values(constants.signals))) {
      const name = Signals.nameOf(number)
      assert.strictEqual(constants.signals[name as NodeJS.Signals], number)
      assert.strictEqual(Signals.numberOf(name as Signals.Signal), number)
    }
  })

  it("the first name of a number wins", () => {
    assert.strictEqual(Signals.nameOf(6), "SIGABRT")
    assert.strictEqual(Signals.nameOf(29), "SIGIO")
  })

  it("real-time signals are taken by the names of the shell, from either end", () => {
    for (const [name, number] of [
      ["SIGRTMIN", 34],
      ["SIGRTMIN+1", 35],
      ["SIGRTMIN+30", 64],
      ["SIGRTMAX-30", 34],
      ["SIGRTMAX", 64]
    ] as const) {
      assert.strictEqual(Signals.numberOf(Either.getOrThrow(decode(name)).signal), number)
    }
    for (const word of ["SIGRTMIN+31", "SIGRTMIN+0", "SIGRTMIN+01", "SIGRTMAX+1", "SIGRT"]) {
      assert.isTrue(Either.isLeft(decode(word)), word)
    }
  })

  it("real-time signals have the names of the shell", () => {
    assert.deepStrictEqual([34, 35, 64].map(Signals.nameOf), ["SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+30"])
  })

  it("a number without a name still says which", () => {
    assert.include(Signals.nameOf(99), "99")
  })
})
