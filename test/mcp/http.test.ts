/** Agents over HTTP, against the command: the official client in both eras, ends, principals, refusals. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { connectHttp, eras, idIn } from "../support/mcp.js"
import { eventually, isAlive, runningWith, webSocketServer } from "../support/servers.js"

const server = (...args: ReadonlyArray<string>) => webSocketServer({ args: ["--mcp", ...args] })

/** A text in the arguments of a command that nobody else has. */
const newMark = () => `600.${Math.floor(Math.random() * 1e9)}`

/** A command that ends late after SIGTERM, and says that it came. */
const stubborn = (ready: string, asked: string) =>
  `trap 'sleep 0.5; echo TERM > ${asked}; exit' TERM; touch ${ready}; while :; do sleep 0.1; done`

describe.each(eras)("in the era of %s", (_, mode) => {
  it.scopedLive("the tools are listed, commands run, and one that runs on is typed into", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const { client, call } = yield* connectHttp(url, mode)
      const { tools } = yield* Effect.promise(() => client.listTools())
      assert.strictEqual(tools.length, 9)
      assert.match(client.getInstructions() ?? "", /^Runs commands on /)
      assert.match((yield* call("exec_command", { cmd: "echo hi; exit 3" })).text, /^\[exit code 3, after .*\]\nhi$/)
      const started = yield* call("exec_command", { cmd: "read n; echo hello $n", yield_time_ms: 0 })
      const typed = yield* call("write_stdin", { session_id: idIn(started.text), chars: "Bob\n" })
      assert.match(typed.text, /^\[exit code 0, .*\]\nhello Bob$/)
      assert.match((yield* call("exec_command", { cmd: "exit 7", tty: true })).text, /^\[exit code 7/)
    })
  )

  it.scopedLive("a cancelled command ends", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const { call, client } = yield* connectHttp(url, mode)
      const file = join(yield* directory, "pid")
      const abort = new AbortController()
      const cancelled = client.callTool(
        { name: "exec_command", arguments: { cmd: `echo $$ > ${file}; exec sleep 600`, yield_time_ms: 50_000 } },
        { signal: abort.signal }
      )
      yield* eventually("it runs", () => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"))
      abort.abort()
      yield* Effect.promise(() =>
        cancelled.then(
          () => assert.fail("it was answered"),
          () => {}
        )
      )
      const pid = Number(readFileSync(file, "utf8"))
      yield* eventually("it is gone", () => !isAlive(pid))
      assert.strictEqual((yield* call("list_sessions")).text, "[0 commands running, 0 ended]")
    })
  )

  it.scopedLive("the end of the server leaves no process", () =>
    Effect.gen(function* () {
      const { url, child, exit } = yield* server()
      const { call } = yield* connectHttp(url, mode)
      const mark = newMark()
      yield* call("exec_command", { cmd: `sleep ${mark} & sleep ${mark}`, yield_time_ms: 0 })
      yield* call("exec_command", { cmd: `sleep ${mark}`, tty: true, yield_time_ms: 0 })
      yield* eventually("they run", () => runningWith(mark).length >= 3)
      child.kill("SIGTERM")
      yield* exit
      assert.isEmpty(runningWith(mark))
    })
  )

  it.scopedLive("the end of the server asks commands to end before it kills them", () =>
    Effect.gen(function* () {
      const { url, child, exit } = yield* server("--shutdown-grace-period-ms", "3000")
      const { call } = yield* connectHttp(url, mode)
      const folder = yield* directory
      const [ready, asked] = [join(folder, "ready"), join(folder, "asked")]
      yield* call("exec_command", { cmd: stubborn(ready, asked), yield_time_ms: 0 })
      yield* eventually("it runs", () => existsSync(ready))
      child.kill("SIGTERM")
      yield* exit
      assert.strictEqual(readFileSync(asked, "utf8"), "TERM\n")
    })
  )

  it.scopedLive("commands that nobody asks about any more are asked to end before they are killed", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--mcp-idle-ms", "1000")
      const { call } = yield* connectHttp(url, mode)
      const folder = yield* directory
      const [ready, asked] = [join(folder, "ready"), join(folder, "asked")]
      yield* call("exec_command", { cmd: stubborn(ready, asked), yield_time_ms: 0 })
      yield* eventually("it runs", () => existsSync(ready))
      yield* eventually("it is asked", () => existsSync(asked))
    })
  )
})
