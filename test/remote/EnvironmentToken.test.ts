import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentToken from "../../src/remote/EnvironmentToken.js"

const secret = "0123456789abcdef0123456789abcdef"

describe("the token of an environment", () => {
  it("stays the same over releases, so that tokens that were given out go on working", () => {
    const executor = EnvironmentToken.derive(secret, "executor")("my-env")
    const client = EnvironmentToken.derive(secret, "client")("my-env")
    const expected = (role: string) =>
      createHmac("sha256", secret).update(`exec-server ${role} v1\0my-env`).digest("base64url")
    assert.deepStrictEqual([executor, client], [expected("executor"), expected("client")])
    assert.match(executor, /^[A-Za-z0-9_-]{43}$/)
  })

  it("is another one for each environment, role and secret", () => {
    const all = ["a", "b", "a\0b", "A"].flatMap((id) =>
      (["executor", "client"] as const).flatMap((role) =>
        [secret, `${secret}x`].map((one) => EnvironmentToken.derive(one, role)(id))
      )
    )
    assert.strictEqual(new Set(all).size, all.length)
  })
})
