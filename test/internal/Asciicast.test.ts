/** The format of recordings. */
import { assert, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Asciicast from "../../src/internal/Asciicast.js"

it("a header and events are read as they were written", () => {
  const header = { cols: 80, rows: 24, type: "xterm", timestamp: 1, command: "c", title: "t", origin: { a: 1 } }
  const line = Asciicast.header(header)
  assert.deepStrictEqual(Either.getOrThrow(Asciicast.readHeader(line)), { version: 3, ...header })
  const read = Asciicast.reader(3)
  assert.deepStrictEqual(read(Asciicast.event(1500, "o", 'a\u001b"\n')), {
    seconds: 1.5,
    code: "o",
    data: 'a\u001b"\n'
  })
  assert.deepStrictEqual(read(Asciicast.event(0, "r", Asciicast.size(80, 24))), {
    seconds: 0,
    code: "r",
    data: "80x24"
  })
})

it("version 2 counts from the beginning", () => {
  assert.deepInclude(Either.getOrThrow(Asciicast.readHeader('{"version": 2, "width": 80, "height": 24}')), {
    version: 2,
    cols: 80,
    rows: 24
  })
  const read = Asciicast.reader(2)
  assert.deepInclude(read('[1.5, "o", "a"]'), { seconds: 1.5 })
  assert.deepInclude(read('[2, "o", "b"]'), { seconds: 0.5 })
  assert.deepInclude(read('[1, "o", "b"]'), { seconds: 0 })
})

it("what is no event is skipped, what is no header told", () => {
  const read = Asciicast.reader(3)
  for (const line of ["# comment", "", "[", "{}", "[1]", '["1", "o", "a"]', '[1, "o", 2]'])
    assert.isUndefined(read(line))
  for (const [line, why] of [
    ["", "its first line is no header of an asciicast"],
    ["[]", "its first line is no header of an asciicast"],
    ['{"version": 1}', "it is version 1 of asciicast; 2 and 3 are supported"],
    ['{"version": 3}', "its header has no size of the terminal"]
  ] as const) {
    assert.deepStrictEqual(Asciicast.readHeader(line), Either.left(why))
  }
})
