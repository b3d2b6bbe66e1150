/** What may be kept for the processes of sessions: one by one, and all together. */
import { assert, describe, it } from "@effect/vitest"
import { Allowances, reservedBytes, unlimited, weightOf, weightOfAll } from "../../src/process/Allowance.js"

const mebibyte = 1048576

const limitOf = (refusal: ReturnType<typeof unlimited.take>) => refusal?.limit

describe("an allowance", () => {
  it("is taken to the last byte, and refused beyond it with nothing taken", () => {
    const allowance = new Allowances({ processBytesPerSession: 100, processBytesTotal: 1000 }).make()
    assert.isUndefined(allowance.take(60))
    assert.strictEqual(limitOf(allowance.take(41)), "processBytesPerSession")
    assert.isUndefined(allowance.take(40))
    assert.strictEqual(limitOf(allowance.take(1)), "processBytesPerSession")
    allowance.give(1)
    assert.isUndefined(allowance.take(1))
  })

  it("ends where those of all sessions do", () => {
    const allowances = new Allowances({ processBytesPerSession: 3 * mebibyte, processBytesTotal: 4 * mebibyte })
    const [first, second] = [allowances.make(), allowances.make()]
    assert.isUndefined(first.take(2 * mebibyte))
    assert.isUndefined(second.take(2 * mebibyte))
    for (const each of [first, second]) {
      const refusal = each.take(1)
      assert.strictEqual(limitOf(refusal), "processBytesTotal")
      assert.strictEqual(refusal?.value, 4 * mebibyte)
    }
    second.give(mebibyte)
    assert.isUndefined(first.take(mebibyte))
    assert.strictEqual(limitOf(second.take(1)), "processBytesTotal")
  })

  it("is a little for each session, though others have taken all", () => {
    const allowances = new Allowances({ processBytesPerSession: mebibyte, processBytesTotal: mebibyte })
    const [greedy, modest] = [allowances.make(), allowances.make()]
    assert.isUndefined(greedy.take(mebibyte))
    assert.isUndefined(modest.take(reservedBytes - 1))
    assert.isUndefined(modest.take(1))
    assert.strictEqual(limitOf(modest.take(1)), "processBytesTotal")
  })

  it("is given back as a whole when its session ends, and once", () => {
    const allowances = new Allowances({ processBytesPerSession: mebibyte, processBytesTotal: mebibyte })
    const [ended, other] = [allowances.make(), allowances.make()]
    assert.isUndefined(ended.take(mebibyte))
    ended.close()
    ended.give(mebibyte)
    assert.isUndefined(other.take(mebibyte))
    // Had it been given back twice, there would be room for more.
    const third = allowances.make()
    assert.isUndefined(third.take(reservedBytes))
    assert.strictEqual(limitOf(third.take(1)), "processBytesTotal")
    ended.close()
    assert.strictEqual(limitOf(third.take(1)), "processBytesTotal")
  })

  it("has no end where nothing is of a session", () => {
    assert.isUndefined(unlimited.take(Number.MAX_SAFE_INTEGER))
    assert.isUndefined(unlimited.take(Number.MAX_SAFE_INTEGER))
  })
})

describe("the weight", () => {
  it("of a string is that of its characters and its own", () => {
    assert.strictEqual(weightOf(""), 32)
    assert.strictEqual(weightOf("abc"), 38)
  })

  it("of a list and of a map is that of all their strings, names included", () => {
    assert.strictEqual(weightOfAll([]), 0)
    assert.strictEqual(weightOfAll(["abc", ""]), 70)
    assert.strictEqual(weightOfAll({ NAME: "abc", X: "" }), 40 + 38 + 34 + 32)
  })
})
