/** What is kept of all commands together: who is forgotten, and what running commands keep when all is taken. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Environment from "../../src/environment/Environment.js"
import { OutputBudget } from "../../src/mcp/OutputBudget.js"
import { Transcript } from "../../src/mcp/Transcript.js"
import * as UnifiedExec from "../../src/mcp/UnifiedExec.js"

const mib = 1048576

/** Lines of 64 bytes, so many bytes of them. */
const lines = (bytes: number) => Buffer.from(`${"x".repeat(63)}\n`.repeat(bytes / 64))

describe("the budget", () => {
  it("forgets what has ended, the one not asked for longest first, and only as much as it must", () => {
    const budget = new OutputBudget(10)
    const forgotten: Array<string> = []
    const owners = ["a", "b", "c"].map((name) => ({ name }))
    for (const owner of owners) {
      budget.take(3)
      budget.offer(owner, () => {
        forgotten.push(owner.name)
        budget.give(3)
      })
    }
    const [a] = owners
    // It was asked for.
    if (a !== undefined) budget.offer(a, () => forgotten.push("a"))
    budget.take(2)
    assert.deepStrictEqual(forgotten, ["b"])
    assert.isFalse(budget.isExceeded)
    budget.take(20)
    assert.deepStrictEqual(forgotten, ["b", "c", "a"])
    assert.isTrue(budget.isExceeded)
    budget.give(20)
    assert.isFalse(budget.isExceeded)
  })
})

describe("output beyond the budget", () => {
  it("is the newest of it: what was printed first is given up", () => {
    const budget = new OutputBudget(2 * mib)
    const [first, second] = [new Transcript(budget), new Transcript(budget)]
    first.push(lines(2 * mib))
    second.push(lines(4 * mib))
    second.push(Buffer.from("the end\n"))
    assert.strictEqual(second.length, 4 * mib + 8)
    const { from = 0 } = second.kept.at(-1) ?? {}
    assert.isAbove(from, 3 * mib)
    assert.strictEqual(second.slice(second.length - 8, second.length).toString(), "the end\n")
    // What the first one has is not taken from it by others.
    assert.strictEqual(first.slice(0, 2 * mib).length, 2 * mib)
    first.free()
    assert.isFalse(budget.isExceeded)
    second.free()
    second.push(lines(mib))
    assert.strictEqual(second.length, 0)
  })
})

describe("commands that share a budget", () => {
  it.scopedLive("are forgotten for those of others, and a terminal is refused when running ones have all", () =>
    Effect.gen(function* () {
      const machine = yield* Environment.local("local")
      const { screens } = yield* UnifiedExec.makeShared
      const shared = { budget: new OutputBudget(3 * mib), screens }
      const [ann, bob] = [yield* UnifiedExec.make({ shared }), yield* UnifiedExec.make({ shared })]
      const first = yield* ann.execCommand(machine, { cmd: "head -c 2000000 /dev/zero | tr '\\0' x | fold" })
      // It has ended with all of its output.
      yield* ann.readOutput(first.sessionId)
      assert.strictEqual((yield* ann.list).length, 1)
      yield* bob.execCommand(machine, { cmd: "echo in a terminal; sleep 600", tty: true, yieldTimeMs: 0 })
      assert.isEmpty(yield* ann.list)
      const gone = yield* Effect.flip(ann.readOutput(first.sessionId))
      assert.match(gone.message, /^there is no session/)
      const refused = yield* Effect.flip(ann.execCommand(machine, { cmd: "true", tty: true }))
      assert.match(refused.message, /^there is no memory for another terminal/)
      assert.strictEqual((yield* ann.execCommand(machine, { cmd: "exit 4" })).state._tag, "Ended")
      // The end of a terminal makes room: it is forgotten when another one needs it.
      const [{ sessionId } = { sessionId: 0 }] = yield* bob.list
      yield* bob.kill(sessionId)
      const ended = yield* ann.execCommand(machine, { cmd: "exit 5", tty: true })
      assert.strictEqual(ended.state._tag, "Ended")
      assert.isEmpty(yield* bob.list)
    })
  )
})
