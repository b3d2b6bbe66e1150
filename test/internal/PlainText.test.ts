/** Text of others at a terminal. */
import { execFileSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import * as PlainText from "../../src/internal/PlainText.js"

/** Everything that a terminal, or whoever reads it, must not get. */
const dangerous = [
  ..."\u0000\u0007\u0008\t\n\r\u001b\u007f\u0080\u009b\u009d\u009f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff",
  "\ud800",
  "\udfff"
]

describe("text of others", () => {
  it("is shown without anything that is not shown", () => {
    for (const character of dangerous) {
      assert.strictEqual(PlainText.plain(`a${character}b`), "a?b")
      assert.strictEqual(JSON.parse(PlainText.json(`a${character}b`)), `a${character}b`)
      assert.notInclude(PlainText.json(`a${character}b`), character)
    }
    const ordinary = "naïve 日本語 😀 שלום ~!'\"\\"
    assert.strictEqual(PlainText.plain(ordinary), ordinary)
    assert.strictEqual(PlainText.escaped(ordinary), ordinary)
  })

  it("is a line of bounded length", () => {
    assert.isBelow(PlainText.plain("x".repeat(100_000_000)).length, 10_000)
  })

  it("is one word of a shell, whatever it is", () => {
    const words = [
      "plain",
      "",
      "a b",
      "it's",
      "$(reboot)",
      "`reboot`",
      "~",
      "!!",
      "\\",
      "a\nb",
      "\u001b]0;title\u0007",
      "\u202eit's \\ here",
      "日本\u009b"
    ]
    for (const word of words) {
      const quoted = PlainText.quote(word)
      for (const character of dangerous) assert.notInclude(quoted, character)
      const env = { ...process.env, LC_ALL: "C.UTF-8" }
      const got = execFileSync("bash", ["-c", `printf %s ${quoted}`], { encoding: "utf8", env })
      assert.strictEqual(got, word, quoted)
    }
  })
})
