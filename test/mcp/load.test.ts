/** Many commands at once, and a long list of files: what a model reads. */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connect, idIn, initialize, raw, textOf } from "../support/mcp.js"

describe("much at once", () => {
  it.scopedLive(
    "200 commands at once each get their own input, are listed, and end with the connection",
    () =>
      Effect.gen(function* () {
        const count = 200
        const client = yield* raw()
        yield* initialize(client)
        const call = (id: string, name: string, given: object) =>
          Effect.map(client.request(id, "tools/call", { name, arguments: given }), textOf)
        const all = Array.from({ length: count }, (_, i) => i)
        const ids = yield* Effect.forEach(
          all,
          (i) => Effect.map(call(`s${i}`, "exec_command", { cmd: "exec cat", yield_time_ms: 0 }), idIn),
          { concurrency: 32 }
        )
        assert.strictEqual(new Set(ids).size, count)
        const echoed = yield* Effect.forEach(
          ids,
          (session_id, i) => call(`w${i}`, "write_stdin", { session_id, chars: `line ${i}\n`, yield_time_ms: 20_000 }),
          { concurrency: "unbounded" }
        )
        for (const [i, text] of echoed.entries()) {
          assert.match(text, new RegExp(`^\\[still running after .*, session_id ${ids[i]}\\]\\nline ${i}\\n?$`))
        }
        const [first, ...listed] = (yield* call("l", "list_sessions", {})).split("\n")
        assert.strictEqual(first, `[${count} commands running, 0 ended]`)
        assert.sameMembers(listed.map(idIn), ids)
        const [ended] = ids
        const over = yield* call("e", "write_stdin", { session_id: ended, close_stdin: true, yield_time_ms: 20_000 })
        assert.match(over, /^\[exit code 0, /)
        assert.match(yield* call("m", "list_sessions", {}), new RegExp(`^\\[${count - 1} commands running, 1 ended\\]`))
        const children = () => readFileSync(`/proc/${client.pid}/task/${client.pid}/children`, "utf8").split(" ")
        const pids = children().filter(Boolean)
        assert.isAtLeast(pids.length, count - 1)
        client.child.stdin?.end()
        assert.strictEqual(yield* client.exit, 0)
        const cats = pids.filter((pid) => {
          try {
            return readFileSync(`/proc/${pid}/cmdline`, "utf8") === "cat\0"
          } catch {
            return false
          }
        })
        assert.deepStrictEqual(cats, [])
      }),
    60_000
  )

  it.scopedLive("a long list of files is cut at the ends of lines, and the middle can be read", () =>
    Effect.gen(function* () {
      const { call } = yield* connect()
      const find = (place: string) => `find ${place} -xdev -maxdepth 3 2>/dev/null`
      const whole = execFileSync("sh", ["-c", `${find("/usr")}; true`], { encoding: "utf8" })
      const count = whole.split("\n").length - 1
      assert.isAbove(whole.length, 40_000)
      const { text } = yield* call("exec_command", { cmd: find("/usr"), yield_time_ms: 50_000 })
      const [first = "", ...shown] = text.split("\n")
      assert.include(first, `; ${count.toLocaleString("en-US")} lines, `)
      const cut = shown.findIndex((line) => line.startsWith("[... "))
      const [head, tail] = [shown.slice(0, cut), shown.slice(cut + 1)]
      assert.isTrue(whole.startsWith(`${head.join("\n")}\n`))
      assert.isTrue(whole.endsWith(`\n${tail.join("\n")}\n`))
      assert.include(shown[cut], `${(count - head.length - tail.length).toLocaleString("en-US")} lines`)
      const offset = Number(/"offset": (\d+)/.exec(shown[cut] ?? "")?.[1])
      const middle = yield* call("read_output", { session_id: idIn(first), offset, max_output_tokens: 100 })
      const [range = "", ...part] = middle.text.split("\n")
      assert.match(
        range,
        new RegExp(`^\\[bytes ${offset} to \\d+ of ${Buffer.byteLength(whole)}; next offset \\d+\\]$`)
      )
      assert.isTrue(Buffer.from(whole).subarray(offset).toString().startsWith(part.join("\n")))
      const root = yield* call("exec_command", { cmd: find("/"), yield_time_ms: 50_000 })
      assert.match(root.text, /^\[exit code \d, .*the middle is left out: .*\]\n\/\n/)
    })
  )
})
