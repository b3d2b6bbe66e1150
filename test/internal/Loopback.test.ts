import { assert, describe, it } from "@effect/vitest"
import { isLoopback } from "../../src/internal/Loopback.js"

describe("a host is loopback", () => {
  for (const [host, expected] of [
    ["127.0.0.1", true],
    ["127.255.255.254", true],
    ["126.255.255.255", false],
    ["128.0.0.0", false],
    ["::1", true],
    ["[::1]", true],
    ["0:0:0:0:0:0:0:1", true],
    ["::1%lo", true],
    ["::2", false],
    ["::ffff:127.0.0.1", true],
    ["::FFFF:127.0.0.1", true],
    ["[::ffff:7f00:1]", true],
    ["::ffff:126.0.0.1", false],
    ["1::7f00:1", false],
    // The deprecated "IPv4-compatible" form, which is routed like any other.
    ["::127.0.0.1", false],
    ["localhost", true],
    ["LOCALHOST", true],
    // Looked up in DNS: anybody may answer.
    ["localhost.", false],
    ["a.localhost", false],
    ["notlocalhost", false],
    ["localhost.test", false],
    ["127.0.0.1.test", false],
    ["127.test", false],
    // Any address, and no address.
    ["0.0.0.0", false],
    ["::", false],
    ["[::]", false],
    ["", false],
    ["[", false]
  ] as const) {
    it(`${JSON.stringify(host)}: ${expected}`, () => {
      assert.strictEqual(isLoopback(host), expected)
    })
  }
})
