/** Whether a program is on the alternate screen, from its output. */
import { assert, describe, it } from "@effect/vitest"
import { AlternateScreen } from "../../src/command/AlternateScreen.js"

const isOnAfter = (...output: ReadonlyArray<string>): boolean => {
  const alternate = new AlternateScreen()
  for (const text of output) alternate.push(text)
  return alternate.isOn
}

describe("the alternate screen", () => {
  it("is on after the modes that change to it, until they are reset", () => {
    for (const mode of [47, 1047, 1049]) {
      assert.isTrue(isOnAfter(`text\u001b[?${mode}h\u001b[2J`))
      assert.isFalse(isOnAfter(`\u001b[?${mode}h`, `text\u001b[?${mode}l`))
    }
    assert.isTrue(isOnAfter("\u001b[?1;1049;25h"))
    assert.isFalse(isOnAfter("\u001b[?1049h", "\u001bc"))
    assert.isFalse(isOnAfter("\u001b[?25h", "?1049h", "\u001b[?10490h"))
  })

  it("is recognised in output that is cut anywhere", () => {
    const sequence = "\u001b[?1049h"
    for (let i = 0; i <= sequence.length; i++)
      assert.isTrue(isOnAfter(`a${sequence.slice(0, i)}`, `${sequence.slice(i)}b`))
    assert.isTrue(isOnAfter(...sequence))
  })
})
