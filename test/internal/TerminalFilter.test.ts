/** What of a recorded program's output is not passed on to a terminal. */
import { assert, describe, it } from "@effect/vitest"
import { TerminalFilter } from "../../src/internal/TerminalFilter.js"

const screen = (text: string) => new TerminalFilter("screen").write(text)
const plain = (text: string) => new TerminalFilter("text").write(text)

describe("what draws on the screen", () => {
  for (const text of [
    "plain ü 💥\r\n\ttext\b\u0007",
    "\u001b[1;31mred\u001b[0m",
    "\u001b[?1049h\u001b[2J\u001b[H\u001b[10;20r",
    "\u001b7\u001b8\u001b(B\u001b)0\u001bM",
    "\u001b[38;2;1;2;3m",
    "\u001b[2 q",
    "\u001b]8;;https://example.com\u001b\\link\u001b]8;;\u0007"
  ]) {
    it(`passes: ${JSON.stringify(text)}`, () => assert.strictEqual(screen(text), text))
  }
})

describe("what a terminal answers, or what acts outside of the screen", () => {
  for (const text of [
    "\u001b[c",
    "\u001b[>0c",
    "\u001b[6n",
    "\u001b[?6n",
    "\u001b[?2026$p",
    "\u001b[>q",
    "\u001b[?u",
    "\u001b[18t",
    "\u001bZ",
    "\u0005",
    "\u001b]52;c;aGVsbG8=\u0007",
    "\u001b]52;c;?\u001b\\",
    "\u001b]10;?\u0007",
    "\u001b]0;title\u0007",
    "\u001bP$qm\u001b\\",
    "\u001b_Gi=1;AAAA\u001b\\",
    "\u001b]1337;File=:AAAA\u0007",
    "\u009b6n",
    "\u009d52;c;aGVsbG8=\u009c",
    "\u001b[1;1;1;1;1;1*y",
    "\u001b[?1;1;0S",
    "\u001b[?4m",
    "\u001b[1#R",
    "\u001b[1;1;1;1#|",
    "\u001b[1'|",
    "\u001b[&u",
    "\u001b[1+p",
    "\u001b%@"
  ]) {
    it(`is left out: ${JSON.stringify(text)}`, () => {
      assert.strictEqual(screen(`a${text}b`), "ab")
      const filter = new TerminalFilter("screen")
      assert.strictEqual(Array.from(`a${text}b`, (one) => filter.write(one)).join(""), "ab", "in pieces")
    })
  }

  for (const text of [
    "\u001b[\u007f6n",
    "\u001b[\u009b6n",
    "\u001b[1ü6n",
    "\u001b\u007f[6n",
    "\u001b\n[6n",
    "\u001b\u009b6n",
    "\u001b]8;;\u001b[6n\u0007",
    "\u001b]8;;\u009b6n\u0007",
    "\u001b]8;;x\u0018",
    "\u001b]8;;\u001b]52;c;aGVsbG8=\u0007",
    "\u001bP\u001b]52;c;aGVsbG8=\u0007",
    "\u001b(\u001b[6n"
  ]) {
    it(`is not let through by what a terminal ignores, or acts on, within a sequence: ${JSON.stringify(text)}`, () => {
      const shown = screen(text)
      for (const start of ["\u001b", "\u009b", "\u009d", "52;c"]) assert.notInclude(shown, start)
    })
  }

  it("does not take what follows an aborted one", () => {
    assert.strictEqual(screen("\u001b]0;title\u001b[31mred"), "\u001b[31mred")
    assert.strictEqual(screen("\u001b\u001b[31mred"), "\u001b[31mred")
  })

  it("is not let through by its length, nor by what aborts it", () => {
    assert.strictEqual(screen(`\u001b]52;c;${"A".repeat(100_000)}\u0007b`), "b")
    assert.strictEqual(screen(`\u001b[${"1;".repeat(5000)}6nb`).includes("\u001b"), false)
    assert.strictEqual(screen("\u001b[6\u001b[6nb"), "b")
    assert.strictEqual(screen("\u001b\u001b[6nb"), "b")
  })
})

it("text has no control sequences at all", () => {
  assert.strictEqual(plain("\u001b[31mred\u001b[0m\r\n\tü\u001b]8;;x\u0007l\u001b]8;;\u0007\b\u009b1m"), "red\n\tül")
})
