import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as PathUri from "../../src/protocol/PathUri.js"

const path = (text: string) => Either.getOrThrowWith(PathUri.parse(text), (why) => new Error(why))
const refusal = (text: string) =>
  Either.match(PathUri.parse(text), {
    onLeft: (why) => why,
    onRight: (found) => {
      throw new Error(`accepted as ${found.path}`)
    }
  })

describe("parse", () => {
  for (const [text, expected] of [
    ["file:///tmp", "/tmp"],
    ["FILE:///tmp", "/tmp"],
    ["file:/tmp", "/tmp"],
    ["file://localhost/tmp", "/tmp"],
    ["file:///tmp/sp%20ace", "/tmp/sp ace"],
    ["file:///tmp/sp ace", "/tmp/sp ace"],
    ["file:///tmp/%2541", "/tmp/%41"],
    ["file:///a/./b/../c", "/a/c"],
    ["file:///%C3%BC", "/ü"],
    ["file:///ü", "/ü"],
    ["file:///a%2Fb", "/a/b"],
    ["file:///a%3Fb%23c", "/a?b#c"],
    ["file:///100%", "/100%"],
    ["file:///", "/"]
  ] as const) {
    it(`${text} is ${expected}`, () => {
      assert.deepStrictEqual(path(text), { path: expected, form: "uri" })
    })
  }

  for (const text of ["/", "/tmp", "/tmp/%20", "/tmp/a?b#c", "/ü", "/a//b/../c", "/tmp/"]) {
    it(`${text} is itself`, () => {
      assert.deepStrictEqual(path(text), { path: text, form: "plain" })
    })
  }

  for (const [text, message] of [
    ["", "invalid URI: relative URL without a base"],
    ["tmp", "invalid URI: relative URL without a base"],
    ["./tmp", "invalid URI: relative URL without a base"],
    ["~", "invalid URI: relative URL without a base"],
    ["http://localhost/tmp", "unsupported path URI scheme `http`"],
    ["c:/tmp", "unsupported path URI scheme `c`"],
    ["file://host/tmp", "'file://host/tmp' is invalid on 'linux'"],
    ["file:///tmp?query", "query parameters are not allowed in path URIs"],
    ["file:///tmp#fragment", "fragments are not allowed in path URIs"],
    ["file:///tmp/%00", "is invalid on 'linux'"],
    ["/tmp/\0", "NUL"]
  ] as const) {
    it(`${JSON.stringify(text)} is refused: ${message}`, () => {
      assert.include(refusal(text), message)
    })
  }

  it("percent-decoding that gives no UTF-8 is refused: Node.js could not pass it to the system", () => {
    assert.deepStrictEqual(
      PathUri.parse("file:///tmp/%ff"),
      Either.left("'file:///tmp/%ff' is not valid UTF-8 after percent-decoding")
    )
  })
})

describe("format", () => {
  it("gives back the form of the question", () => {
    for (const text of ["/tmp/sp ace", "/a%41", "/ü", "/a?b#c", "/", "/a\\b", "/new\nline", "/tab\t"]) {
      assert.strictEqual(PathUri.format(text, "plain"), text)
      assert.deepStrictEqual(path(PathUri.format(text, "uri")), { path: text, form: "uri" })
    }
    assert.strictEqual(PathUri.format("/tmp/x/sp ace%41", "uri"), "file:///tmp/x/sp%20ace%2541")
  })
})

describe("FilePath", () => {
  const decode = Schema.decodeUnknownSync(PathUri.FilePath)

  it("is without dots and without slashes in excess", () => {
    for (const [text, expected] of [
      ["/", "/"],
      ["//", "/"],
      ["/..", "/"],
      ["/a/", "/a"],
      ["/a//b/./c/../d/", "/a/b/d"],
      ["file:///", "/"],
      ["file:///a/../b/", "/b"],
      ["file:///a%2Fb%20c", "/a/b c"]
    ] as const) {
      assert.strictEqual(decode(text).bytes.toString(), expected, text)
    }
  })

  it("keeps bytes that are no UTF-8, and writes them in a URI", () => {
    const { bytes, form } = decode("file:///tmp/%ff/%C3%BC/./x")
    assert.deepStrictEqual(bytes, Buffer.from("2f746d702fff2fc3bc2f78", "hex"))
    assert.strictEqual(PathUri.formatBytes(bytes, form), "file:///tmp/%FF/%C3%BC/x")
    assert.strictEqual(PathUri.formatBytes(bytes, "plain"), "/tmp/\ufffd/ü/x")
    assert.deepStrictEqual(decode(PathUri.formatBytes(bytes, form)).bytes, bytes)
  })

  it("is written as it is read", () => {
    for (const text of ["/tmp/sp ace", "/a%41", "/ü", "/a?b#c", "/", "/plain.name~-_", "/new\nline"]) {
      const bytes = Buffer.from(text)
      for (const form of ["plain", "uri"] as const) {
        assert.deepStrictEqual(decode(PathUri.formatBytes(bytes, form)), { bytes, form }, text)
      }
      assert.strictEqual(PathUri.formatBytes(bytes, "uri"), PathUri.format(text, "uri"))
    }
  })
})
