import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Lines from "../../src/protocol/Lines.js"

/** Feeds chunks to a splitter; gives what it reported, bad lines as `!why`. */
const split = (limit: number, ...chunks: ReadonlyArray<string | Buffer>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const push = Lines.make(limit, { onLine: (text) => found.push(text), onBadLine: (why) => found.push(`!${why}`) })
  for (const chunk of chunks) push(Buffer.from(chunk))
  return found
}

describe("Lines", () => {
  it("cuts lines, however they arrive", () => {
    const text = '{"a":"ü"}\n{"b":"€𝄞"}\n{"c":1}\n'
    const expected = text.trimEnd().split("\n")
    assert.deepStrictEqual(split(100, text), expected)
    const bytes = Buffer.from(text)
    assert.deepStrictEqual(split(100, ...Array.from(bytes, (byte) => Buffer.from([byte]))), expected)
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepStrictEqual(split(100, bytes.subarray(0, at), bytes.subarray(at)), expected)
    }
  })

  it("skips blank lines, and takes the end of a line of other systems for white space", () => {
    assert.deepStrictEqual(
      split(100, "\n\r\n  \t\na\r\n\n").map((line) => line.trim()),
      ["a"]
    )
  })

  it("reports no unfinished last line", () => {
    assert.deepStrictEqual(split(100, "a\nb"), ["a"])
  })

  it("takes a line as long as the limit, and refuses a longer one by name, once", () => {
    assert.deepStrictEqual(split(4, "abcd\n"), ["abcd"])
    const [first, ...rest] = split(4, "abcde\n", "ok\n")
    assert.match(first ?? "", /^!.*maxMessageBytes.*4/)
    assert.deepStrictEqual(rest, ["ok"])
  })

  it("skips a line that is too long wherever it is cut, and nothing else", () => {
    const bytes = Buffer.from(`a\n${"x".repeat(20)}\nb\n`)
    for (let size = 1; size <= bytes.length; size++) {
      const chunks: Array<Buffer> = []
      for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
      const found = split(4, ...chunks)
      assert.deepStrictEqual([found[0], found[2]], ["a", "b"])
      assert.lengthOf(found, 3)
    }
  })

  it("two lines that are too long are two faults", () => {
    assert.lengthOf(split(4, "aaaaaa\nbbbbbb\nc\n"), 3)
  })

  it("a line that is not UTF-8 is a fault, and the next one is fine", () => {
    const found = split(100, Buffer.from([0x22, 0xff, 0x22, 10]), "ok\n")
    assert.match(found[0] ?? "", /^!.*UTF-8/)
    assert.deepStrictEqual(found.slice(1), ["ok"])
  })

  it("does not hold on to the chunk that it was given", () => {
    const found: Array<string> = []
    const push = Lines.make(100, { onLine: (text) => found.push(text), onBadLine: () => {} })
    const chunk = Buffer.from("begin")
    push(chunk)
    chunk.fill(0)
    push(Buffer.from(" end\n"))
    assert.deepStrictEqual(found, ["begin end"])
  })
})
