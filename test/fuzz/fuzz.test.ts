/** A short run of the fuzzer, and the parts of it that others rely on. `npm run fuzz` runs it for longer. */
import { existsSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { run } from "./Fuzz.js"
import * as Grammar from "./Grammar.js"
import { Ledger } from "./Ledger.js"
import * as Messages from "./Messages.js"
import { type Expectation, expectationOf } from "./Oracle.js"
import { Random } from "./Random.js"
import { isSafe } from "./Safety.js"
import * as World from "./World.js"

const world = { folder: "/tmp/fuzz-folder", origin: "http://127.0.0.1:5" }

describe("the fuzzer", () => {
  it("speaks every method of the protocol", () => {
    const random = new Random(1)
    const methods = new Set(Array.from({ length: 5000 }, () => Grammar.request(random, world).method))
    assert.deepStrictEqual(Array.from(methods).sort(), Array.from(ExecApi.requests.keys()).sort())
  })

  it("makes the same message of the same seed", () => {
    const make = () => Array.from({ length: 200 }, (_, i) => Messages.message(new Random(i), String(i), world))
    assert.deepStrictEqual(make(), make())
    assert.isAbove(new Set(make()).size, 150)
  })

  it("lets nothing out that could do harm", () => {
    const refused = [
      { method: "fs/remove", params: { path: "/" } },
      { method: "fs/remove", params: { path: "/tmp/fuzz-folder/../other" } },
      { method: "fs/remove", params: { path: "/tmp/fuzz-folders" } },
      { method: "fs/remove", params: { path: "file:///tmp/fuzz-folder/%2e%2e/other" } },
      { method: "fs/remove", params: { path: "FILE:/etc" } },
      { method: "process/start", params: { argv: ["sh", "-c", "x"] } },
      { method: "process/start", params: { argv: ["sleep", "1000"] } },
      { method: "process/start", params: { argv: ["cat", "f"] } },
      { method: "process/start", params: { argv: ["true"], arg0: "rm" } },
      { method: "process/start", params: { argv: ["true"], env: { PATH: "/tmp/fuzz-folder" } } },
      { method: "process/start", params: { argv: ["true"], cwd: "/root" } },
      { method: "http/request", params: { url: "http://example.com/" } },
      { method: "http/request", params: { url: "http://127.0.0.1:55/" } }
    ]
    for (const message of refused) assert.isFalse(isSafe(JSON.stringify(message), world), JSON.stringify(message))
    const allowed = [
      { method: "fs/remove", params: { path: "/tmp/fuzz-folder/a" } },
      { method: "process/start", params: { argv: ["/bin/true", "x"], env: { PATH: "/usr/bin:/bin" } } },
      { method: "http/request", params: { url: "http://127.0.0.1:5/small" } }
    ]
    for (const message of allowed) assert.isTrue(isSafe(JSON.stringify(message), world), JSON.stringify(message))
  })

  it("knows what has to come of a message", () => {
    const answer = (id: string): Expectation => ({ _tag: "Answer", ids: [id] })
    assert.deepStrictEqual(expectationOf('{"id":1,"method":"x"}'), answer("1"))
    assert.deepStrictEqual(expectationOf('{"id":"a","method":"x"}'), answer('"a"'))
    assert.deepStrictEqual(expectationOf('{"id":-9223372036854775808,"method":"x"}'), answer("-9223372036854775808"))
    for (const text of ["", "[]", "5", '{"id":1.5,"method":"x"}', '{"id":1}', "[".repeat(100)]) {
      assert.deepStrictEqual(expectationOf(text), answer("-1"))
    }
    assert.deepStrictEqual(expectationOf('{"method":"x"}'), { _tag: "Close" })
    assert.deepStrictEqual(expectationOf('{"id":1,"result":1}'), { _tag: "Close" })
  })

  it("notices an answer that comes twice, and one that is missing", () => {
    const ledger = new Ledger({ results: 0, errors: 0 })
    ledger.sent("first", expectationOf('{"id":1,"method":"x"}'))
    ledger.sent("second", expectationOf('{"id":2,"method":"x"}'))
    ledger.answered('{"id":1,"result":{}}')
    assert.isUndefined(ledger.fault)
    assert.deepStrictEqual(ledger.names(), ["second"])
    ledger.answered('{"id":1,"result":{}}')
    assert.match(ledger.fault ?? "", /nobody waits for/)
  })

  it("leaves nothing behind", async () => {
    const ground = await World.make()
    ground.folder("x")
    ground.end()
    assert.isFalse(existsSync(ground.root))
  })

  for (const seed of [1, 20261121]) {
    it(`fires at a server for a while without doing harm to it or to others, seed ${seed}`, async () => {
      const { frames, answers, peakMb, observed } = await run({ seed, count: 6000 })
      assert.isAtLeast(frames, 6000)
      // Neither does everything succeed, nor is everything refused.
      assert.isAbove(answers.results, 500)
      assert.isAbove(answers.errors, 500)
      assert.isBelow(peakMb, 600)
      assert.isAbove(observed.questions, 0)
      assert.isBelow(observed.max, 10_000)
    })
  }
})
