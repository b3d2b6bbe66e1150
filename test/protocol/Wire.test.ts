import { assert, describe, it } from "@effect/vitest"
import * as Wire from "../../src/protocol/Wire.js"

const request = (text: string): Extract<Wire.Message, { _tag: "Request" }> => {
  const message = Wire.parse(text)
  if (message._tag !== "Request") throw new Error(`${text} is ${JSON.stringify(message)}`)
  return message
}

describe("requests", () => {
  it("have an id, a method, and params as they are", () => {
    assert.deepStrictEqual<unknown>(Wire.parse('{"id":1,"method":"m","params":{"a":[1]}}'), {
      _tag: "Request",
      id: "1",
      method: "m",
      params: { a: [1] },
      trace: undefined
    })
    assert.isUndefined(request('{"id":1,"method":"m"}').params)
    assert.isNull(request('{"id":1,"method":"m","params":null}').params)
  })

  for (const id of [
    "0",
    "-1",
    "7",
    "9007199254740991",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    '""',
    '"a"',
    '"\\"quoted\\""',
    '"ünï"'
  ]) {
    it(`echo the id ${id} exactly`, () => {
      const parsed = request(`{"id":${id},"method":"m"}`)
      assert.strictEqual(Wire.success(parsed.id, {}), `{"id":${id},"result":{}}`)
    })
  }

  for (const [what, text] of [
    [
      "among other large numbers",
      '{"params":{"id":1111111111111111111},"id":9223372036854775806,"method":"m","x":9223372036854775801}'
    ],
    ["with white space", '{ "method" : "m" , "id" : \n 9223372036854775806 }'],
    ["behind a string that looks like one", '{"method":"\\"id\\":1","params":["\\"id\\":2"],"id":9223372036854775806}'],
    ["behind nested ones", '{"params":[{"id":1},{"id":{"id":3}}],"method":"m","id":9223372036854775806}']
  ] as const) {
    it(`find a large id ${what}`, () => {
      assert.strictEqual(request(text).id, "9223372036854775806")
    })
  }

  it("the last of two ids counts, as in JSON, also where both are large", () => {
    assert.strictEqual(
      request('{"id":9223372036854775801,"id":9223372036854775802,"method":"m"}').id,
      "9223372036854775802"
    )
  })

  for (const id of ["9223372036854775808", "-9223372036854775809", "1.5", "1e400", "null", "true", "[]", "{}"]) {
    it(`have no id ${id}`, () => {
      assert.strictEqual(Wire.parse(`{"id":${id},"method":"m"}`)._tag, "Malformed")
    })
  }

  it("may have unknown members, a jsonrpc member, and even a result", () => {
    assert.strictEqual(request('{"jsonrpc":"2.0","id":1,"method":"m","x":1,"result":2}').method, "m")
  })

  it("may carry a trace, which is an object", () => {
    assert.deepStrictEqual(request('{"id":1,"method":"m","trace":{"traceparent":"00-a"}}').trace, {
      traceparent: "00-a"
    })
    assert.isUndefined(request('{"id":1,"method":"m","trace":null}').trace)
    for (const trace of ['"x"', "1", "[]", "true"]) {
      assert.strictEqual(Wire.parse(`{"id":1,"method":"m","trace":${trace}}`)._tag, "Malformed", trace)
    }
  })

  it("keep what names like __proto__ hold", () => {
    const { params } = request('{"id":1,"method":"m","params":{"__proto__":{"a":1}}}')
    assert.deepStrictEqual(Object.keys(params as object), ["__proto__"])
  })
})

describe("notifications", () => {
  it("have a method and no id; a bad trace does not matter", () => {
    assert.deepStrictEqual(Wire.parse('{"method":"initialized","trace":5}'), {
      _tag: "Notification",
      method: "initialized",
      params: undefined
    })
  })
})

describe("responses", () => {
  it("have an id, and a result or an error", () => {
    const result = Wire.parse('{"id":6,"result":{}}')
    assert.deepInclude(result, { _tag: "Response", body: { _tag: "Result", result: {} } })
    const error = Wire.parse('{"id":"a","error":{"code":-1,"message":"no"}}')
    assert.deepInclude(error, { _tag: "Response", body: { _tag: "Error", code: -1, message: "no" } })
    assert.strictEqual(Wire.parse('{"id":1,"result":null}')._tag, "Response")
    assert.strictEqual(Wire.parse('{"id":1,"result":1,"error":{"code":1,"message":""}}')._tag, "Response")
  })
})

describe("malformed messages", () => {
  const deep = (depth: number) => `{"id":1,"method":"m","params":${"[".repeat(depth)}${"]".repeat(depth)}}`
  for (const text of [
    "",
    "  ",
    "nope",
    "{",
    "{}",
    "5",
    "null",
    '"text"',
    "true",
    "[]",
    '[{"id":1,"method":"m"}]',
    '{"id":1}',
    '{"params":{}}',
    '{"id":1,"method":5}',
    '{"id":1,"method":null}',
    '{"method":["m"]}',
    '{"result":{}}',
    '{"id":1,"error":"no"}',
    '{"id":1,"method":"m"} {}',
    "{'id':1}",
    "NaN"
  ]) {
    it(JSON.stringify(text), () => {
      const message = Wire.parse(text)
      if (message._tag !== "Malformed") throw new Error(JSON.stringify(message))
      assert.isAbove(message.detail.length, 5)
    })
  }

  it("nesting is bounded; the message names the bound", () => {
    // The message itself is one level.
    assert.strictEqual(Wire.parse(deep(63))._tag, "Request")
    for (const depth of [64, 200, 10_000]) {
      const message = Wire.parse(deep(depth))
      assert.deepStrictEqual(message, { _tag: "Malformed", detail: "recursion limit exceeded: nested deeper than 64" })
    }
  })

  it("brackets are counted where they nest: not side by side, and not in strings", () => {
    const params = { flat: Array.from({ length: 500 }, () => [{}]), text: '[{"\\'.repeat(500) }
    assert.strictEqual(Wire.parse(JSON.stringify({ id: 1, method: "m", params }))._tag, "Request")
  })

  it("nothing is built of what nests too deep", () => {
    const text = `${"[".repeat(30_000_000)}`
    const before = process.memoryUsage().heapUsed
    assert.include(Wire.parse(text), { _tag: "Malformed" })
    assert.isBelow(process.memoryUsage().heapUsed - before, 100_000_000)
  })

  it("values are bounded, those in strings aside: requests to a server have fewer than answers", () => {
    const list = (values: number, element: string) =>
      `{"id":1,"method":"m","params":[${`${element},`.repeat(values)}1]}`
    const many = Wire.maxRequestValues
    for (const text of [list(many, "1"), list(many / 2, "{}"), list(many / 2, "[]"), list(many / 2, '{"a":1}')]) {
      const message = Wire.parse(text, many)
      if (message._tag !== "Malformed") throw new Error(message._tag)
      assert.match(message.detail, /^the message has 50\d{4} values; the limit is 500000$/)
      assert.strictEqual(Wire.parse(text)._tag, "Request")
    }
    assert.strictEqual(Wire.parse(list(1, `"${"[],{}".repeat(many)}"`), many)._tag, "Request")
    assert.strictEqual(Wire.parse(list(many - 10, "1"), many)._tag, "Request")
  })

  it("many quotes and braces in strings take no long time to look through", () => {
    const text = `{"params":${JSON.stringify('{"'.repeat(200_000))},"id":9223372036854775807,"method":"m"}`
    assert.strictEqual(request(text).id, "9223372036854775807")
  })
})

describe("what is sent", () => {
  const { id } = request('{"id":1,"method":"m"}')

  it("a result, an error and a notification, without a jsonrpc member, in the order the original writes", () => {
    assert.strictEqual(Wire.success(id, { a: 1 }), '{"id":1,"result":{"a":1}}')
    assert.strictEqual(Wire.failure(id, -32600, 'a "b"'), '{"error":{"code":-32600,"message":"a \\"b\\""},"id":1}')
    assert.strictEqual(
      Wire.notification("fs/missingChanged", { watchId: 1 }),
      '{"method":"fs/missingChanged","params":{"watchId":1}}'
    )
  })

  it("a result around a value that comes later", () => {
    for (const result of [{ data: "" }, { a: 1, data: "", b: ["x"] }]) {
      const { head, tail } = Wire.successAround(id, result, "data")
      assert.deepStrictEqual(JSON.parse(`${head}YQ==${tail}`), { id: 1, result: { ...result, data: "YQ==" } })
    }
  })

  it("the answer to a malformed message has the integer -1 as its id", () => {
    assert.strictEqual(Wire.failure(Wire.malformedId, -32600, "no"), '{"error":{"code":-32600,"message":"no"},"id":-1}')
  })
})
