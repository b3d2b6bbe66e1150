import { assert, describe, it } from "@effect/vitest"
import { proxyFor } from "../../src/http/ProxyRoutes.js"

const proxy = "http://proxy.test:3128"
/** What ends here as well: names with their dot, no address at all, and IPv4 in IPv6. */
const others = ["localhost.", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"]
const via = (url: string, environment: Record<string, string>) => proxyFor(new URL(url), environment)

describe("the proxy for a URL", () => {
  it("is named by the variable of its scheme, or by the one of all schemes", () => {
    assert.strictEqual(via("http://a.test/", { http_proxy: proxy }), proxy)
    assert.strictEqual(via("http://a.test/", { HTTP_PROXY: proxy }), proxy)
    assert.strictEqual(via("https://a.test/", { https_proxy: proxy }), proxy)
    assert.strictEqual(via("https://a.test/", { all_proxy: proxy }), proxy)
    assert.strictEqual(via("http://a.test/", { HTTP_PROXY: "http://other", http_proxy: proxy }), proxy)
    assert.isUndefined(via("https://a.test/", { http_proxy: proxy }))
    assert.isUndefined(via("http://a.test/", { http_proxy: "" }))
  })

  for (const host of ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", ...others]) {
    it(`is none for ${host}`, () => {
      assert.isUndefined(via(`http://${host}:8080/`, { http_proxy: proxy }))
    })
  }

  for (const host of ["127.test", "notlocalhost", "localhost.test", "[::2]", "[::ffff:126.0.0.1]", "[1::7f00:1]"]) {
    it(`is used for ${host}`, () => {
      assert.strictEqual(via(`http://${host}:8080/`, { http_proxy: proxy }), proxy)
    })
  }

  for (const [list, url, exempt] of [
    ["*", "http://a.test/", true],
    ["a.test", "http://a.test/", true],
    ["a.test", "http://A.TEST/", true],
    ["A.Test", "http://a.test/", true],
    ["x, a.test", "http://a.test/", true],
    ["x a.test", "http://a.test/", true],
    ["test", "http://a.test/", true],
    [".a.test", "http://b.a.test/", true],
    ["*.a.test", "http://b.a.test/", true],
    ["a.test", "http://ba.test/", false],
    ["a.test:80", "http://a.test/", true],
    ["a.test:81", "http://a.test/", false],
    ["a.test:443", "https://a.test/", true],
    ["10.1.2.3", "http://10.1.2.3/", true],
    ["fe80::1", "http://[fe80::1]/", true],
    ["[fe80::1]:80", "http://[fe80::1]/", true],
    ["", "http://a.test/", false]
  ] as const) {
    it(`is ${exempt ? "none" : "used"} for ${url} with no_proxy=${JSON.stringify(list)}`, () => {
      for (const name of ["no_proxy", "NO_PROXY"]) {
        assert.strictEqual(via(url, { all_proxy: proxy, [name]: list }), exempt ? undefined : proxy)
      }
    })
  }
})
