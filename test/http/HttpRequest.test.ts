import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as HttpRequest from "../../src/http/HttpRequest.js"
import { HttpRequestParams } from "../../src/protocol/HttpApi.js"

const environment = { TOKEN: "s3cret", EXEC_SERVER_REMOTE_TOKEN: "own", EMPTY: "", BROKEN: "a\nb" }

const request = (more: object, allowed?: ReadonlyArray<string>) =>
  HttpRequest.fromParams(
    Schema.decodeUnknownSync(HttpRequestParams)({ method: "GET", url: "http://h/", requestId: "r", ...more }),
    environment,
    allowed
  )

const header = (name: string, value: string, valueEnvVar?: string) => ({
  headers: [valueEnvVar === undefined ? { name, value } : { name, value, valueEnvVar }]
})

describe("a request that is refused", () => {
  const invalid = "http/request url is invalid:"
  for (const [what, more, message] of [
    ["a method with a space", { method: "B D" }, "http/request method is invalid: invalid HTTP method"],
    ["an empty method", { method: "" }, "http/request method is invalid: invalid HTTP method"],
    ["no scheme", { url: "nope" }, `${invalid} relative URL without a base`],
    ["a path", { url: "/x" }, `${invalid} relative URL without a base`],
    ["an empty URL", { url: "" }, `${invalid} relative URL without a base`],
    ["no host", { url: "http://" }, `${invalid} empty host`],
    ["a port that is no number", { url: "http://h:x/" }, `${invalid} invalid port number`],
    ["a port that is too large", { url: "http://h:65536/" }, `${invalid} invalid port number`],
    ["a broken IPv4 address", { url: "http://1.2.3.256/" }, `${invalid} invalid IPv4 address`],
    ["a broken IPv6 address", { url: "http://[::x]/" }, `${invalid} invalid IPv6 address`],
    ["a host with a space", { url: "http://a b/" }, `${invalid} invalid international domain name`],
    ["another scheme", { url: "ftp://x/" }, "http/request only supports http and https URLs, got ftp"],
    ["a file", { url: "file:///etc/passwd" }, "http/request only supports http and https URLs, got file"],
    ["a name with a space", header("bad name", ""), "http/request header name is invalid: invalid HTTP header name"],
    ["an empty name", header("", "x"), "http/request header name is invalid: invalid HTTP header name"],
    [
      "a variable that may be the server's own secret",
      header("x", "", "EXEC_SERVER_REMOTE_TOKEN"),
      "http/request header x names EXEC_SERVER_REMOTE_TOKEN, which may hold a secret of the server itself; give the value under another name"
    ],
    [
      "a value of two lines",
      header("x", "a\nb"),
      "http/request header value is invalid for x: failed to parse header value"
    ],
    ["a value with NUL", header("x", "\0"), "http/request header value is invalid for x: failed to parse header value"],
    [
      "a variable of two lines",
      header("x", "", "BROKEN"),
      "http/request header value is invalid for x: failed to parse header value"
    ],
    [
      "a variable that is not set",
      header("Authorization", "Bearer ", "NOPE"),
      "http/request header Authorization requires executor environment variable NOPE"
    ]
  ] as const) {
    it(what, () => {
      const result = request(more)
      assert.strictEqual(Either.isLeft(result) ? result.left.message : "it was accepted", message)
    })
  }
})

describe("the variables that a header may name", () => {
  const outcome = (name: string, allowed: ReadonlyArray<string>) =>
    Either.match(request(header("x", "", name), allowed), {
      onLeft: ({ message }) => message,
      onRight: ({ headers }) => headers[0]?.value
    })
  const notAllowed = (name: string) =>
    `http/request header x names the variable ${name}, which httpEnvAllow does not allow; ` +
    "add it to that setting of the server, or send the value itself"

  it("are those that the server allows; of the others not even whether they are set is told", () => {
    assert.strictEqual(outcome("TOKEN", ["EMPTY", "TOKEN"]), "s3cret")
    for (const name of ["TOKEN", "NOPE", "token"]) assert.strictEqual(outcome(name, ["EMPTY"]), notAllowed(name))
    assert.strictEqual(outcome("TOKEN", []), notAllowed("TOKEN"))
  })

  it("are set, and no secrets of the server, also where they are allowed", () => {
    assert.strictEqual(outcome("NOPE", ["NOPE"]), "http/request header x requires executor environment variable NOPE")
    assert.match(String(outcome("EXEC_SERVER_REMOTE_TOKEN", ["EXEC_SERVER_REMOTE_TOKEN"])), /secret of the server/)
  })

  it("do not matter to a header without one", () => {
    assert.isTrue(Either.isRight(request(header("x", "y"), [])))
  })
})

describe("a request that goes out", () => {
  const accepted = (more: object) => Either.getOrThrow(request(more))
  const lines = (more: object) => accepted(more).headers.map(({ name, value }) => `${name}: ${value}`)

  it("keeps the method as it is", () => {
    assert.strictEqual(accepted({ method: "pUrGe" }).method, "pUrGe")
  })

  it("has its headers in order, repeated ones too, and accepts anything unless told otherwise", () => {
    const headers = [
      { name: "X-A", value: "1" },
      { name: "b", value: "" },
      { name: "x-a", value: "2" }
    ]
    assert.deepStrictEqual(lines({ headers }), ["x-a: 1", "b: ", "x-a: 2", "accept: */*"])
    assert.deepStrictEqual(lines(header("Accept", "text/plain")), ["accept: text/plain"])
  })

  it("sends text as UTF-8", () => {
    assert.strictEqual(Buffer.from(lines(header("x", "é\t"))[0] ?? "", "latin1").toString(), "x: é\t")
  })

  it("sends the value of a variable after its own, and knows that it is a secret", () => {
    const { headers } = accepted(header("authorization", "Bearer ", "TOKEN"))
    assert.deepStrictEqual(headers[0], { name: "authorization", value: "Bearer s3cret", secret: true })
    assert.deepInclude(accepted(header("x", "a", "EMPTY")).headers[0], { value: "a" })
  })

  it("leaves the length of the body to the server", () => {
    for (const name of ["Content-Length", "Transfer-Encoding", "Trailer"]) {
      assert.deepStrictEqual(lines(header(name, "7")), ["accept: */*"])
    }
  })

  it("turns the user of a URL into a header, unless there is one", () => {
    const { url, headers } = accepted({ url: "http://us%C3%A9r:p%3Aw@h/x#y" })
    assert.strictEqual(url.href, "http://h/x")
    const [, encoded = ""] = headers[0]?.value.split(" ") ?? []
    assert.strictEqual(Buffer.from(encoded, "base64").toString(), "usér:p:w")
    const own = accepted({ url: "http://u:p@h/", ...header("authorization", "mine") })
    assert.deepStrictEqual(
      own.headers.map(({ name, value }) => [name, value]),
      [
        ["authorization", "mine"],
        ["accept", "*/*"]
      ]
    )
  })
})
