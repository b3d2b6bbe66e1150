/** The names of keys, and what each means with and without a terminal. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Keys from "../../src/mcp/Keys.js"
import * as Typing from "../../src/mcp/Typing.js"

describe("a key", () => {
  it("is what a terminal sends for its name, in any of the usual ways to write it", () => {
    const cases: ReadonlyArray<readonly [expected: string, ...names: ReadonlyArray<string>]> = [
      ["\r", "enter", "Enter", "return"],
      ["\u001b", "esc", "ESCAPE", "ctrl-[", "^["],
      ["\u007f", "backspace"],
      ["\u001b[A", "up"],
      ["\u001b[5~", "page-up", "PageUp"],
      ["\u001b[Z", "shift-tab"],
      ["\u001bOP", "f1"],
      ["\u001b[24~", "F12"],
      ["\u0003", "ctrl-c", "Ctrl+C", "C-c", "c-C", "^C", "^c"],
      ["\u001c", "ctrl-\\", "^\\"],
      ["\u001a", "ctrl-z"],
      ["\u0000", "ctrl-space", "C-Space", "ctrl-@"],
      ["\u001bx", "alt-x", "Alt+x", "M-x"],
      ["\u001b\r", "alt-enter"],
      ["\u001b\u0003", "alt-ctrl-c", "M-C-c"],
      [" ", "space", " "],
      ["a", "a"],
      ["A", "A"],
      ["^", "^"],
      ["日", "日"],
      ["😀", "😀"]
    ]
    for (const [expected, ...names] of cases) {
      for (const name of names) assert.strictEqual(Keys.bytesOf(name), expected, name)
    }
    for (let i = 1; i <= 26; i++) {
      const letter = String.fromCharCode(96 + i)
      assert.strictEqual(Keys.bytesOf(`ctrl-${letter}`), String.fromCharCode(i))
    }
    for (const name of Keys.names.split(", ").slice(0, 16)) assert.isDefined(Keys.bytesOf(name), name)
  })

  const none = [
    ...["", "entr", "ab", "ctrl-", "ctrl-é", "ctrl-ß", "ctrl-ı", "ctrl-enter", "ctrl-cc", "alt-", "alt-entr", "f13"],
    ...["constructor", "__proto__", "toString", "alt-".repeat(50_000)]
  ]

  it("that there is not is none, whatever it is called", () => {
    for (const name of none) assert.isUndefined(Keys.bytesOf(name), name.slice(0, 20))
  })

  it.effect("that there is not is refused with those that there are", () =>
    Effect.gen(function* () {
      for (const name of none) {
        const { message } = yield* Effect.flip(Typing.check({ id: 3, hasTerminal: true }, ["enter", name]))
        assert.strictEqual(message, `there is no key ${JSON.stringify(name)}; keys are ${Keys.names}`)
      }
    })
  )

  it.effect("means something without a terminal if it is a signal, or the end of the input", () =>
    Effect.gen(function* () {
      const without = { id: 3, hasTerminal: false }
      yield* Typing.check(without, ["ctrl-c", "^D", "C-\\"])
      const { message } = yield* Effect.flip(Typing.check(without, ["ctrl-c", "enter"]))
      assert.match(message, /^session 3 has no terminal, where the key "enter" means nothing: only ctrl-c, ctrl-d and/)
      yield* Typing.check({ ...without, hasTerminal: true }, ["enter"])
    })
  )
})
