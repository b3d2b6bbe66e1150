import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Schemas from "../../src/protocol/Schemas.js"
import { growth, linear } from "../support/growth.js"

const params = Schema.Struct({
  text: Schema.optional(Schemas.Text),
  flag: Schema.optional(Schemas.Flag),
  list: Schema.optional(Schemas.TextList),
  map: Schema.optional(Schemas.TextMap),
  count: Schemas.maybe(Schemas.Count),
  cells: Schema.optional(Schemas.Cells),
  word: Schema.optional(Schemas.oneOf("a", "b")),
  one: Schema.optional(Schemas.oneOf("only")),
  bytes: Schema.optional(Schemas.Bytes),
  nested: Schema.optional(Schema.Struct({ inner: Schemas.Text }))
})

/** The message for a payload that must be refused. */
const refusal = (value: unknown, schema: Schema.Schema.AnyNoContext = params): string =>
  Either.match(Schema.decodeUnknownEither(schema)(value), {
    onLeft: Schemas.formatParseError,
    onRight: (decoded) => {
      throw new Error(`accepted: ${JSON.stringify(decoded)}`)
    }
  })

const accepted = (value: unknown) => Schema.decodeUnknownSync(params)(value)

describe("messages", () => {
  const cases: ReadonlyArray<readonly [value: object, start: string, field: string]> = [
    [{ text: 5 }, "invalid type: number, expected a string", "text"],
    [{ text: null }, "invalid type: null, expected a string", "text"],
    [{ text: ["x"] }, "invalid type: sequence, expected a string", "text"],
    [{ text: {} }, "invalid type: map, expected a string", "text"],
    [{ text: true }, "invalid type: boolean `true`, expected a string", "text"],
    [{ flag: null }, "invalid type: null, expected a boolean", "flag"],
    [{ flag: "true" }, 'invalid type: string "true", expected a boolean', "flag"],
    [{ list: "true" }, 'invalid type: string "true", expected a sequence', "list"],
    [{ list: ["a", 1] }, "invalid type: number, expected a string", "list"],
    [{ map: [] }, "invalid type: sequence, expected a map", "map"],
    [{ map: { A: 1 } }, "invalid type: number, expected a string", "map"],
    [{ count: -1 }, "invalid number", "count"],
    [{ count: 1.5 }, "invalid number", "count"],
    [{ count: "1" }, 'invalid type: string "1", expected', "count"],
    [{ cells: 0 }, "invalid number", "cells"],
    [{ cells: 65_536 }, "invalid number", "cells"],
    [{ word: "c" }, "unknown variant `c`, expected `a` or `b`", "word"],
    [{ word: 1 }, "invalid type: number, expected a string", "word"],
    [{ one: "x" }, "unknown variant `x`, expected `only`", "one"],
    [{ bytes: "!" }, "Invalid symbol 33, offset 0.", "bytes"],
    [{ bytes: 5 }, "invalid type: number, expected a string", "bytes"]
  ]
  for (const [value, start, field] of cases) {
    it(`${JSON.stringify(value)}: ${start}`, () => {
      const message = refusal(value)
      assert.strictEqual(message.slice(0, start.length), start)
      assert.include(message, field)
    })
  }

  it("a missing field is named, and where it is missing", () => {
    assert.strictEqual(refusal({}, Schema.Struct({ argv: Schemas.TextList })), "missing field `argv`")
    assert.match(refusal({ nested: {} }), /^missing field `inner`.*nested/)
  })

  it("a long wrong value is not quoted in full", () => {
    assert.isBelow(refusal({ flag: "x".repeat(10_000) }).length, 300)
  })

  it("of several faults one is told", () => {
    assert.strictEqual(refusal({ text: 1, flag: 1 }).split("expected").length, 2)
  })
})

describe("values", () => {
  it("null is as good as absent where it is allowed", () => {
    assert.deepStrictEqual(accepted({ count: null }), {})
    assert.deepStrictEqual(accepted({}), {})
  })

  it("unknown members are ignored", () => {
    assert.deepStrictEqual(accepted({ unknown: 1, text: "" }), { text: "" })
  })

  it("counts reach from 0 to those of 64 bits, cells from 1 to 65535", () => {
    for (const count of [0, 1, 2 ** 53, 2 ** 63]) assert.deepStrictEqual(accepted({ count }), { count })
    for (const cells of [1, 65_535]) assert.deepStrictEqual(accepted({ cells }), { cells })
    refusal({ count: 2 ** 65 })
    refusal({ count: Number.POSITIVE_INFINITY })
  })

  it("a map may have any names", () => {
    const map = { "": "", "A=B": "x", __proto__x: "y", constructor: "z" }
    assert.deepStrictEqual(accepted({ map }), { map })
  })
})

describe("base64", () => {
  const decode = Schema.decodeUnknownSync(Schemas.Bytes)
  const encode = Schema.encodeSync(Schemas.Bytes)

  it("every byte and every length comes back", () => {
    for (let length = 0; length < 70; length++) {
      const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * 37 + length) % 256))
      assert.isTrue(decode(encode(bytes)).equals(bytes))
      assert.strictEqual(encode(bytes), bytes.toString("base64"))
    }
  })

  const refused = (text: string) => refusal({ b: text }, Schema.Struct({ b: Schemas.Bytes }))

  for (const text of ["YQ", "YWI", "YQ=", "Y", "YWJj=", "====", "=", "YQ==="]) {
    it(`padding is required, and not too much: ${text}`, () => {
      refused(text)
    })
  }

  it("what is wrong is said in the original's words", () => {
    for (const [text, message] of [
      ["YQ", "Invalid padding"],
      ["!", "Invalid symbol 33, offset 0."],
      ["YWJj\n", "Invalid symbol 10, offset 4."],
      ["YWJj YWJj", "Invalid symbol 32, offset 4."],
      ["YW-_", "Invalid symbol 45, offset 2."]
    ] as const) {
      assert.include(refused(text), message, JSON.stringify(text))
    }
  })

  it("bits that no byte uses must be zero", () => {
    assert.include(refused("YR=="), "Invalid last symbol 82, offset 1.")
    assert.include(refused("YWJ="), "Invalid last symbol 74, offset 2.")
  })

  for (const [name, make] of [
    ["padding alone", (size: number) => "=".repeat(size)],
    ["padding before the end", (size: number) => `${"=".repeat(size)}A`],
    ["many paddings", (size: number) => "A=".repeat(size / 2)],
    ["no padding", (size: number) => "A".repeat(size + 1)]
  ] as const) {
    it(`what is wrong with it is found in linear time: ${name}`, () => {
      assert.isBelow(growth(make, Schemas.base64Fault, 32_768), linear)
    })
  }

  it("padding in the middle is refused", () => {
    refused("YQ==YQ==")
    refused("YQ=a")
  })
})
