import { createRequire } from "node:module"
import { assert, describe, it } from "@effect/vitest"
import { provider, widthOf } from "../../src/internal/CellWidth.js"

const require = createRequire(import.meta.url)

describe("the width of a character", () => {
  for (const [what, text, width] of [
    ["a letter", "a", 1],
    ["a control character", "\u0007", 0],
    ["an accented letter", "\u00e9", 1],
    ["a soft hyphen", "\u00ad", 1],
    ["a combining accent", "\u0301", 0],
    ["a joiner", "\u200d", 0],
    ["a Han character", "\u6f22", 2],
    ["a Hangul syllable", "\ud55c", 2],
    ["a full-width letter", "\uff21", 2],
    ["an emoji", "\u{1f600}", 2],
    ["a box", "\u2500", 1],
    ["a character of the third plane", "\u{30000}", 2],
    ["a private one", "\ue0b0", 1]
  ] as const) {
    it(`of ${what} is ${width}`, () => assert.strictEqual(widthOf(text.codePointAt(0) ?? 0), width))
  }

  it("agrees with the addon for Unicode 11", () => {
    const { Unicode11Addon } = require("@xterm/addon-unicode11")
    let theirs: typeof provider | undefined
    const register = (found: typeof provider) => {
      theirs = found
    }
    new Unicode11Addon().activate({ unicode: { register } })
    const differing: Array<string> = []
    for (const [first, last] of [
      [0x20, 0x7e],
      [0xa0, 0x36f],
      [0x1100, 0x11ff],
      [0x2500, 0x27bf],
      [0x3000, 0x30ff],
      [0x4e00, 0x9fcc],
      [0xac00, 0xd7a3],
      [0xff01, 0xffdc],
      [0x1f300, 0x1f64f]
    ] as const) {
      for (let codepoint = first; codepoint <= last; codepoint++) {
        if (!/\p{Assigned}/u.test(String.fromCodePoint(codepoint))) continue
        const expected = theirs?.wcwidth(codepoint)
        if (expected !== widthOf(codepoint)) differing.push(`${codepoint.toString(16)}: ${expected}`)
      }
    }
    assert.deepStrictEqual(differing, [])
  })

  it("of a mark is that of what it is drawn onto", () => {
    const han = provider.charProperties(0x6f22, 0)
    assert.strictEqual((provider.charProperties(0x0301, han) >> 1) & 3, 2)
    assert.strictEqual(provider.charProperties(0x0301, han) & 1, 1)
    assert.strictEqual(provider.charProperties(0x0301, 0) & 1, 0)
  })
})
