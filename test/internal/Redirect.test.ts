import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import type { HttpRequest } from "../../src/http/HttpRequest.js"
import * as Redirect from "../../src/internal/Redirect.js"

const secret = { name: "x-api-key", value: "k", secret: true }
const plain = (name: string, value = "v") => ({ name, value, secret: false })

const base: HttpRequest = {
  method: "GET",
  url: new URL("http://one.test/a/b?q=1"),
  headers: [plain("authorization"), plain("cookie"), plain("host"), plain("x-a"), plain("content-type"), secret],
  body: undefined,
  timeoutMs: 5,
  redirectPolicy: "follow"
}

const follow = (request: Partial<HttpRequest>, status: number, location: string | undefined, followed = 0) =>
  Redirect.next({ ...base, ...request }, status, location, followed)

const followed = (request: Partial<HttpRequest>, status: number, location: string) => {
  const next = Either.getOrThrow(follow(request, status, location))
  if (next === undefined) throw new Error("it is the last response")
  return next
}

const namesOf = ({ headers }: HttpRequest) => headers.map(({ name }) => name)

describe("a redirect", () => {
  it("is the last response where there is nothing to follow", () => {
    for (const [request, status, location] of [
      [{}, 302, undefined],
      [{}, 300, "/x"],
      [{}, 304, "/x"],
      [{}, 200, "/x"],
      [{}, 302, "http://"]
    ] as const) {
      assert.deepStrictEqual(follow(request, status, location), Either.right(undefined))
    }
  })

  it("is followed ten times, and only to where HTTP is spoken", () => {
    assert.isTrue(Either.isRight(follow({}, 302, "/x", 9)))
    for (const result of [
      follow({}, 302, "/x", 10),
      follow({}, 302, "ftp://x/"),
      follow({}, 302, "file:///etc/passwd")
    ]) {
      assert.deepStrictEqual(result, Either.left("error following redirect"))
    }
  })

  for (const [status, method, becomes] of [
    [301, "POST", "GET"],
    [302, "POST", "GET"],
    [303, "POST", "GET"],
    [303, "PUT", "GET"],
    [303, "HEAD", "HEAD"],
    [301, "PUT", "PUT"],
    [302, "DELETE", "DELETE"],
    [307, "POST", "POST"],
    [308, "POST", "POST"]
  ] as const) {
    it(`${status} makes ${becomes} of ${method}`, () => {
      const body = Buffer.from("b")
      const next = followed({ method, body }, status, "/x")
      assert.strictEqual(next.method, becomes)
      const keeps = method === becomes
      assert.strictEqual(next.body, keeps ? body : undefined)
      assert.strictEqual(namesOf(next).includes("content-type"), keeps)
    })
  }

  it("is resolved against where it came from; user names and fragments are dropped", () => {
    for (const [location, href] of [
      ["c", "http://one.test/a/c"],
      ["/c?d", "http://one.test/c?d"],
      ["//two.test", "http://two.test/"],
      ["http://u:p@two.test/#f", "http://two.test/"],
      [Buffer.from("/é").toString("latin1"), "http://one.test/%C3%A9"]
    ] as const) {
      assert.strictEqual(followed({}, 302, location).url.href, href)
    }
  })

  it("within one origin keeps everything, and says where it comes from", () => {
    const next = followed({}, 302, "/x")
    assert.deepStrictEqual(namesOf(next), ["referer", ...namesOf(base)])
    assert.strictEqual(next.headers[0]?.value, "http://one.test/a/b?q=1")
    assert.strictEqual(followed({ ...next }, 302, "/y").headers[0]?.value, "http://one.test/x")
    assert.lengthOf(
      namesOf(followed({ ...next }, 302, "/y")).filter((name) => name === "referer"),
      1
    )
  })

  for (const location of ["http://two.test/", "http://one.test:81/", "https://one.test/", "http://sub.one.test/"]) {
    it(`to ${location} leaves credentials and the query behind`, () => {
      const next = followed({}, 302, location)
      assert.deepStrictEqual(namesOf(next), ["referer", "x-a", "content-type"])
      assert.strictEqual(next.headers[0]?.value, "http://one.test/")
    })
  }

  it("from https to http says nothing of where it comes from", () => {
    assert.notInclude(namesOf(followed({ url: new URL("https://one.test/") }, 302, "http://one.test/")), "referer")
  })
})
