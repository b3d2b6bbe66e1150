import { assert, describe, it } from "@effect/vitest"
import * as SystemText from "../../src/protocol/SystemText.js"

const missing = "No such file or directory (os error 2)"

describe("SystemText", () => {
  it("names what a system error is about, safe to show and of a sane length", () => {
    assert.strictEqual(SystemText.about(missing, "/a b"), `${missing}: /a b`)
    assert.strictEqual(SystemText.about(missing, "/a\n\u001b[2J\u202e"), `${missing}: /a??[2J?`)
    assert.strictEqual(SystemText.about(missing, "/".repeat(5000)), `${missing}: ${"/".repeat(1024)}...`)
  })

  it("leaves messages alone that say it themselves", () => {
    for (const message of [`cannot make /x: ${missing}`, `${missing}: /x`, "path contains a symbolic link", ""]) {
      assert.strictEqual(SystemText.about(message, "/y"), message)
    }
  })

  it("is taken apart again, also without a subject", () => {
    const parts = (text: string, subject: string | undefined) => ({ text, subject })
    assert.deepStrictEqual(SystemText.parse(`${missing}: /a: b (os error 3)`), parts(missing, "/a: b (os error 3)"))
    assert.deepStrictEqual(SystemText.parse(missing), parts(missing, undefined))
    assert.isUndefined(SystemText.parse("unknown process id p1"))
    assert.isUndefined(SystemText.parse(`cannot make /x: ${missing}`))
  })
})
