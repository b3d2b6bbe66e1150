/** Output as a model reads it: what is cut, what is cleaned, and which bytes an offset means. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Cut from "../../src/mcp/Cut.js"
import { OutputBudget } from "../../src/mcp/OutputBudget.js"
import * as PlainOutput from "../../src/mcp/PlainOutput.js"
import { Transcript } from "../../src/mcp/Transcript.js"
import { Random } from "../fuzz/Random.js"

const pieces = ["a", "word ", "é", "日", "😀", "\n", "\n\n", "\t", "x".repeat(40)]

/** A text without control sequences. */
const textOf = (random: Random, count = random.below(60)): string =>
  Array.from({ length: count }, () => random.pick(pieces)).join("")

/** Bytes in chunks of any sizes, which part characters. */
const push = (transcript: Transcript, bytes: Buffer, random: Random, most: number) => {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random.below(most)
    transcript.push(bytes.subarray(at, at + size))
    at += size
  }
}

/** What is kept of some output. */
const kept = (...chunks: ReadonlyArray<Buffer | string>): string => {
  const transcript = new Transcript(new OutputBudget())
  for (const chunk of chunks) transcript.push(Buffer.from(chunk))
  return transcript.slice(0, transcript.length).toString()
}

describe("a cut", () => {
  it("is at the end of a line if one fits, in no character, and never longer than the budget", () => {
    for (let seed = 0; seed < 500; seed++) {
      const random = new Random(seed)
      const bytes = Buffer.from(textOf(random))
      const budget = 4 + random.below(100)
      const head = bytes.subarray(0, Cut.headLength(bytes, budget))
      const tail = bytes.subarray(Cut.tailStart(bytes, budget))
      for (const [name, part] of Object.entries({ head, tail })) {
        const text = part.toString()
        assert.notInclude(text, "\ufffd", `${name} of seed ${seed}`)
        // The newline at the end does not count.
        assert.isAtMost(Buffer.byteLength(text.replace(/\n$/, "")), budget, `${name} of seed ${seed}`)
        if (bytes.length <= budget) assert.strictEqual(part.length, bytes.length)
        else assert.isAbove(part.length, 0, `${name} of seed ${seed}`)
      }
      if (bytes.length > budget && bytes.subarray(0, budget + 1).includes("\n")) assert.strictEqual(head.at(-1), 0x0a)
      const start = bytes.length - tail.length
      if (bytes.length > budget && bytes.subarray(-budget - 1, -1).includes("\n")) {
        assert.strictEqual(bytes[start - 1], 0x0a, `seed ${seed}`)
      }
    }
  })

  it("counts bytes, not characters", () => {
    const bytes = Buffer.from("日".repeat(100))
    assert.strictEqual(Cut.headLength(bytes, 10), 9)
    assert.strictEqual(Cut.tailStart(bytes, 10), 291)
    assert.strictEqual(Cut.headLength(Buffer.from("ab\ncd"), 2), 3)
    assert.strictEqual(Cut.tailStart(Buffer.from("ab\ncd"), 2), 3)
  })

  it("of what is no text goes on", () => {
    const bytes = Buffer.alloc(1000, 0x80)
    assert.strictEqual(Cut.headLength(bytes, 400), 400)
    assert.strictEqual(Cut.tailStart(bytes, 400), 600)
  })
})

describe("plain text", () => {
  const cases = [
    ["10%\r50%\r100%", "100%"],
    ["longer\rab", "abnger"],
    ["longer\r\u001b[Kab", "ab"],
    ["line\r\nnext\r\n", "line\nnext\n"],
    ["😀 done\rx", "x done"],
    ["\u001b[1;31mred\u001b[0m \u001b]0;title\u0007text", "red text"],
    ["abc\b\bd", "ad"],
    ["😀\bx", "x"],
    ["\bx\u0000\u0007\u007fy\tz", "xy\tz"],
    ["a\u009b31mb", "ab"],
    ["naïve 日本語 😀", "naïve 日本語 😀"]
  ] as const

  it("is each line as it stands in the end, without control characters", () => {
    for (const [given, expected] of cases) {
      assert.strictEqual(PlainOutput.clean(given), expected, JSON.stringify(given))
    }
  })

  it("is the same in whatever chunks it comes, before and after the end of its line", () => {
    for (const [given, expected] of cases) {
      const bytes = Array.from(Buffer.from(given), (byte) => Buffer.from([byte]))
      assert.strictEqual(kept(...bytes), expected, JSON.stringify(given))
      assert.strictEqual(kept(...bytes, "\n"), `${expected}\n`, JSON.stringify(given))
    }
  })

  it("has no part of a control sequence, wherever a long line is parted", () => {
    for (const sequence of ["\u001b[1;31m", "\u001b]0;title\u0007", "\u001b]0;title\u001b\\", "é"]) {
      const bytes = Buffer.from(sequence)
      for (let inside = 0; inside <= bytes.length; inside++) {
        const before = "x".repeat(65536 - inside)
        const text = kept(
          Buffer.concat([Buffer.from(before), bytes.subarray(0, inside)]),
          bytes.subarray(inside),
          "y\n"
        )
        assert.isTrue(text === `${before}${sequence === "é" ? "é" : ""}y\n`, `${JSON.stringify(sequence)} ${inside}`)
      }
    }
  })

  it("does not wait forever for the end of a control sequence", () => {
    const transcript = new Transcript(new OutputBudget())
    for (let i = 0; i < 40; i++) transcript.push(Buffer.from(`\u001b]${"x".repeat(10_000)}`))
    assert.isAbove(transcript.keptLength, 200_000)
  })
})

describe("an offset", () => {
  it("means the same byte of the output, in whatever chunks it came", () => {
    for (let seed = 0; seed < 20; seed++) {
      const random = new Random(seed)
      const bytes = Buffer.from(textOf(random, 20_000))
      const transcript = new Transcript(new OutputBudget())
      push(transcript, bytes, random, 10_000)
      assert.strictEqual(transcript.length, bytes.length)
      assert.deepStrictEqual(transcript.kept, [{ from: 0, to: bytes.length }])
      for (let i = 0; i < 50; i++) {
        const from = random.below(bytes.length)
        const to = from + random.below(bytes.length - from + 1)
        assert.isTrue(transcript.slice(from, to).equals(bytes.subarray(from, to)), `seed ${seed}: ${from} to ${to}`)
        const newlines = bytes.subarray(0, from).filter((byte) => byte === 0x0a).length
        // Those of the last line, which is not complete, are none.
        if (from <= transcript.keptLength) assert.strictEqual(transcript.newlinesBefore(from), newlines)
      }
    }
  })

  it("means the same byte after the middle was given up: 1 MiB of the beginning and 15 of the end stay", () => {
    const mib = 1048576
    const lines = (from: number) =>
      Buffer.from(
        Array.from({ length: 65536 }, (_, i) => `${from + i}`.padStart(15, "0"))
          .join("\n")
          .concat("\n")
      )
    const transcript = new Transcript(new OutputBudget())
    for (let i = 0; i < 20; i++) transcript.push(lines(i * 65536))
    assert.strictEqual(transcript.length, 20 * mib)
    const [head, tail] = transcript.kept
    assert.deepStrictEqual([head, tail?.to], [{ from: 0, to: mib }, 20 * mib])
    const from = tail?.from ?? 0
    assert.closeTo(from, 5 * mib, 65536)
    for (const at of [0, mib - 16, from, 19 * mib]) {
      assert.strictEqual(transcript.slice(at, at + 16).toString(), `${at / 16}\n`.padStart(16, "0"))
      assert.strictEqual(transcript.newlinesBefore(at), at / 16)
    }
    assert.strictEqual(transcript.slice(0, 20 * mib).length, mib + 20 * mib - from)
  })
})
