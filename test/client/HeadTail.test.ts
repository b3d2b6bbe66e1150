import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import { bytesOf, HeadTail } from "../../src/client/HeadTail.js"

const text = Buffer.from("0123456789abcdefghij")

describe("HeadTail", () => {
  it("keeps both ends and counts what lies between, however it arrives", () => {
    for (let limit = 0; limit <= text.length + 1; limit++) {
      for (let size = 1; size <= text.length; size++) {
        const kept = new HeadTail(limit)
        assert.isTrue(kept.isEmpty)
        for (let at = 0; at < text.length; at += size) kept.push(text.subarray(at, at + size))
        assert.isFalse(kept.isEmpty)
        const { head, tail, omittedBytes } = kept.collected()
        const name = `limit ${limit}, chunks of ${size}`
        assert.strictEqual(omittedBytes, Math.max(0, text.length - limit), name)
        if (omittedBytes === 0) assert.strictEqual(head.toString(), text.toString(), name)
        else {
          assert.strictEqual(head.toString(), text.subarray(0, Math.ceil(limit / 2)).toString(), name)
          assert.strictEqual(tail.toString(), text.subarray(text.length - Math.floor(limit / 2)).toString(), name)
        }
        assert.strictEqual(bytesOf({ head, tail, omittedBytes }).length, text.length - omittedBytes, name)
      }
    }
  })
})
