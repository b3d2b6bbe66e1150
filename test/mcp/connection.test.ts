/** The connection of an agent: raw lines of both eras, its ends, and what is started when. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { locate } from "../../src/spawn/Cgroups.js"
import { start } from "../support/command.js"
import { directory } from "../support/files.js"
import { idIn, initialize, modern, raw, textOf } from "../support/mcp.js"
import { eventually, guardOf, isAlive, runningWith } from "../support/servers.js"

/** The children of a process. */
const childrenOf = (pid: number): ReadonlyArray<string> =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean)

const exec = (cmd: string, more: object = {}) => ({ name: "exec_command", arguments: { cmd, ...more } })

describe("lines", () => {
  it.scopedLive("server/discover with a string as id is answered, and nothing has been started by then", () =>
    Effect.gen(function* () {
      const { request, pid } = yield* raw()
      const { result, error } = yield* request("server-discover-probe-1", "server/discover", { _meta: modern })
      assert.isUndefined(error)
      assert.include(JSON.stringify(result), "2026-07-28")
      const tools = yield* request("t", "tools/list", { _meta: modern })
      assert.match(JSON.stringify(tools), /"ttlMs":3600000/)
      assert.match(JSON.stringify(tools), /"cacheScope":"private"/)
      assert.isEmpty(childrenOf(pid))
    })
  )

  it.scopedLive("unknown methods and tools are errors, and what is no message is passed over", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      client.write("this is no message")
      assert.strictEqual((yield* client.request(1, "resources/none")).error?.code, -32601)
      const { error } = yield* client.request(2, "tools/call", { name: "shell", arguments: {} })
      assert.strictEqual(error?.code, -32602)
      assert.match(error?.message ?? "", /there is no tool shell; there are exec_command, write_stdin/)
      // Arguments may be left out.
      assert.strictEqual(
        textOf(yield* client.request(3, "tools/call", { name: "list_sessions" })),
        "[0 commands running, 0 ended]"
      )
    })
  )

  it.scopedLive("a cancelled request has no answer; a cancelled wait ends nothing", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      const started = yield* client.request(1, "tools/call", exec("sleep 0.5; cat", { yield_time_ms: 0 }))
      const session_id = idIn(textOf(started))
      const read = { name: "read_output", arguments: { session_id, yield_time_ms: 50_000 } }
      client.write(JSON.stringify({ jsonrpc: "2.0", id: 2, method: "tools/call", params: read }))
      client.write(JSON.stringify({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 2 } }))
      const typed = { name: "write_stdin", arguments: { session_id, chars: "still here\n", close_stdin: true } }
      assert.match(textOf(yield* client.request(3, "tools/call", typed)), /^\[exit code 0.*\nstill here$/)
      assert.isUndefined(client.messages.find(({ id }) => id === 2))
    })
  )

  it.scopedLive("a message may be larger than 10 MB: a file is written by an argument", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      const path = join(yield* directory, "large")
      const content = "x".repeat(12_000_000)
      const wrote = yield* client.request(1, "tools/call", { name: "write_file", arguments: { path, content } })
      assert.strictEqual(textOf(wrote), `[wrote 12,000,000 bytes to ${path}]`)
      assert.strictEqual(readFileSync(path).length, 12_000_000)
    })
  )
})

/** Starts commands, each with a child, and returns a text in their arguments. */
const many = (client: Parameters<typeof initialize>[0], count: number) =>
  Effect.gen(function* () {
    const mark = `600.${Math.floor(Math.random() * 1e9)}`
    yield* Effect.forEach(
      Array.from({ length: count }, (_, i) => i),
      (i) =>
        client.request(
          `s${i}`,
          "tools/call",
          exec(`sleep ${mark} & sleep ${mark}`, { yield_time_ms: 0, tty: i % 2 === 0 })
        ),
      { concurrency: 5, discard: true }
    )
    yield* eventually("they run", () => runningWith(mark).length >= count * 2)
    return mark
  })

describe("the end", () => {
  it.scopedLive("of the input ends all commands, with exit code 0", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      const mark = yield* many(client, 3)
      client.child.stdin?.end()
      assert.strictEqual(yield* client.exit, 0)
      assert.isEmpty(runningWith(mark))
    })
  )

  it.scopedLive("of the input asks a command to end first", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      const folder = yield* directory
      const [ready, asked] = [join(folder, "ready"), join(folder, "asked")]
      const cmd = `trap 'echo TERM > ${asked}; exit' TERM; touch ${ready}; while :; do sleep 0.1; done`
      yield* client.request(1, "tools/call", exec(cmd, { yield_time_ms: 0 }))
      yield* eventually("it runs", () => existsSync(ready))
      client.child.stdin?.end()
      assert.strictEqual(yield* client.exit, 0)
      assert.strictEqual(readFileSync(asked, "utf8"), "TERM\n")
    })
  )

  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGINT", 130]
  ] as const) {
    it.scopedLive(`by ${signal} ends all commands, also one that ignores SIGTERM`, () =>
      Effect.gen(function* () {
        const client = yield* raw()
        yield* initialize(client)
        const mark = yield* many(client, 3)
        const stubborn = `trap '' TERM; echo ready; while :; do sleep 1.${Date.now()}; done`
        yield* client.request(1, "tools/call", exec(stubborn, { yield_time_ms: 300 }))
        client.child.kill(signal)
        assert.strictEqual(yield* client.exit, code)
        assert.isEmpty(runningWith(mark))
        assert.isEmpty(runningWith(stubborn))
      })
    )
  }

  it.scopedLive("by SIGKILL leaves none of 20 commands", () =>
    Effect.gen(function* () {
      const client = yield* raw()
      yield* initialize(client)
      const mark = yield* many(client, 20)
      client.child.kill("SIGKILL")
      yield* client.exit
      yield* eventually("they are gone", () => runningWith(mark).length === 0)
    })
  )

  it.scopedLive("of the client by SIGKILL leaves none of 20 commands, and no server", () =>
    Effect.gen(function* () {
      // A client that is killed: a shell whose pipe is the server's input.
      const folder = yield* directory
      const mark = `600.${Math.floor(Math.random() * 1e9)}`
      const lines = [
        {
          jsonrpc: "2.0",
          id: 0,
          method: "initialize",
          params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "x", version: "1" } }
        },
        { jsonrpc: "2.0", method: "notifications/initialized" },
        ...Array.from({ length: 20 }, (_, i) => ({
          jsonrpc: "2.0",
          id: i + 1,
          method: "tools/call",
          params: exec(`sleep ${mark}`, { yield_time_ms: 0 })
        }))
      ]
      writeFileSync(join(folder, "lines"), `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`)
      const client = yield* start([
        "run",
        "--",
        "sh",
        "-c",
        `(cat ${folder}/lines; exec sleep 1000) | ${process.execPath} dist/bin.js mcp > ${folder}/out`
      ])
      yield* eventually("they run", () => runningWith(mark).length >= 20, 30_000)
      const servers = runningWith("dist/bin.js\0mcp")
      assert.isNotEmpty(servers)
      client.child.kill("SIGKILL")
      yield* eventually("they are gone", () => runningWith(mark).length === 0 && !servers.some(isAlive))
      assert.isTrue(existsSync(join(folder, "out")))
    })
  )
})

/** Whether commands have cgroups here, unless a setting says otherwise. */
const hasCgroups = Either.isRight(locate("auto"))

describe("a daemon that an ended command has left, after SIGKILL", () => {
  for (const [setting, ends] of [
    ["auto", hasCgroups],
    ["none", false]
  ] as const) {
    it.scopedLive(
      `with EXEC_SERVER_CGROUP=${setting} ${ends ? "ends with its cgroup" : "stays, without a cgroup"}`,
      () =>
        Effect.gen(function* () {
          const client = yield* raw([], { EXEC_SERVER_CGROUP: setting })
          yield* initialize(client)
          const mark = `600.${Math.floor(Math.random() * 1e9)}`
          const cmd = `setsid sleep ${mark} </dev/null >/dev/null 2>&1 &`
          assert.match(textOf(yield* client.request(1, "tools/call", exec(cmd))), /^\[exit code 0, [^;]*\]/)
          const daemons = () => runningWith(`sleep\0${mark}`)
          yield* eventually("it runs", () => daemons().length === 1)
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              for (const pid of daemons()) process.kill(pid, "SIGKILL")
            })
          )
          const guard = guardOf(client.pid)
          client.child.kill("SIGKILL")
          yield* client.exit
          yield* eventually("the guard is gone", () => guard === undefined || !isAlive(guard))
          if (ends) yield* eventually("it is gone", () => daemons().length === 0)
          else assert.lengthOf(daemons(), 1)
        })
    )
  }
})

describe("--tools exec", () => {
  it.scopedLive("offers no tool for files", () =>
    Effect.gen(function* () {
      const client = yield* raw(["--tools", "exec"])
      yield* initialize(client)
      const listed = JSON.stringify(yield* client.request(1, "tools/list"))
      assert.include(listed, '"list_sessions"')
      assert.notInclude(listed, '"read_file"')
      const { error } = yield* client.request(2, "tools/call", { name: "read_file", arguments: { path: "/etc/hosts" } })
      assert.strictEqual(error?.code, -32602)
    })
  )
})

describe("--login", () => {
  it.scopedLive("reads the user's profile, which a shell does not by itself", () =>
    Effect.gen(function* () {
      const home = yield* directory
      writeFileSync(join(home, ".profile"), "export FROM_PROFILE=yes\n")
      writeFileSync(join(home, ".bash_profile"), "export FROM_PROFILE=yes\n")
      for (const [args, shown] of [
        [["--login"], "yes"],
        [[], ""]
      ] as const) {
        const client = yield* raw(args, { HOME: home })
        yield* initialize(client)
        const said = textOf(yield* client.request(1, "tools/call", exec('echo "<$FROM_PROFILE>"')))
        assert.include(said, `<${shown}>`)
      }
    })
  )
})

describe("a secret of the server", () => {
  it.scopedLive("is in no command", () =>
    Effect.gen(function* () {
      const client = yield* raw([], { EXEC_SERVER_TOKEN: "top-secret", CODEX_API_KEY: "top-secret" })
      yield* initialize(client)
      const said = textOf(yield* client.request(1, "tools/call", exec("env; tr '\\0' '\\n' < /proc/$PPID/environ")))
      assert.match(said, /^\[exit code 0/)
      assert.notInclude(said, "top-secret")
    })
  )
})

describe("on servers", () => {
  it.scopedLive("--url runs there, and ends what was started", () =>
    Effect.gen(function* () {
      const server = yield* start(["--listen", "ws://127.0.0.1:0"])
      yield* eventually("it listens", () => server.stdout().includes("\n"))
      const url = server.stdout().trim()
      const client = yield* raw(["--url", url])
      const { result } = yield* initialize(client)
      assert.include(JSON.stringify(result), `Runs commands on ${new URL(url).host}`)
      const mark = yield* many(client, 3)
      const parents = textOf(yield* client.request(1, "tools/call", exec("cat /proc/$PPID/cmdline | tr '\\0' ' '")))
      assert.include(parents, "--listen")
      client.child.kill("SIGKILL")
      yield* client.exit
      yield* eventually("they are gone", () => runningWith(mark).length === 0)
      assert.isTrue(isAlive(server.pid))
    })
  )

  it.scopedLive("--environments offers each, and the tools say which", () =>
    Effect.gen(function* () {
      const server = yield* start(["--listen", "ws://127.0.0.1:0"])
      yield* eventually("it listens", () => server.stdout().includes("\n"))
      const folder = yield* directory
      const file = join(folder, "environments.toml")
      writeFileSync(file, `default = "there"\n\n[[environments]]\nid = "there"\nurl = "${server.stdout().trim()}"\n`)
      const client = yield* raw(["--environments", file])
      yield* initialize(client)
      const { result } = yield* client.request(1, "tools/list")
      const tools = (
        result as unknown as {
          readonly tools: ReadonlyArray<{
            readonly inputSchema: { readonly properties: Record<string, { readonly enum?: unknown }> }
          }>
        }
      ).tools
      for (const { inputSchema } of tools) {
        assert.deepStrictEqual(inputSchema.properties["environment"]?.enum, ["there", "local"])
      }
      const run = (id: number, more: object) =>
        Effect.map(
          client.request(
            id,
            "tools/call",
            exec("tr '\\0' ' ' < /proc/$PPID/cmdline; cat", { yield_time_ms: 200, ...more })
          ),
          textOf
        )
      const there = yield* run(2, {})
      assert.include(there, "--listen")
      const local = yield* run(3, { environment: "local" })
      assert.include(local, "mcp --environments")
      const read = {
        name: "read_output",
        arguments: { session_id: idIn(local), environment: "there", yield_time_ms: 0 }
      }
      assert.match(
        textOf(yield* client.request(4, "tools/call", read)),
        /^\[failed: session \d+ is in the environment local, not in there\]$/
      )
      const list = textOf(yield* client.request(5, "tools/call", { name: "list_sessions", arguments: {} }))
      assert.match(list, /^\[2 commands running, 0 ended\]\nsession_id \d+ in there: .*\nsession_id \d+ in local: /)
    })
  )

  it.scopedLive("a server that cannot be reached is a failed call, and the next one tries again", () =>
    Effect.gen(function* () {
      const client = yield* raw(["--url", "ws://127.0.0.1:1"])
      yield* initialize(client)
      for (const id of [1, 2]) {
        const { result } = yield* client.request(id, "tools/call", exec("true"))
        assert.isTrue(result?.isError)
        assert.match(result?.content[0]?.text ?? "", /^\[failed: cannot connect to 127\.0\.0\.1:1: /)
      }
    })
  )

  it.scopedLive("wrong flags are refused before anything is said", () =>
    Effect.gen(function* () {
      const { exit, stderr } = yield* raw(["--url", "ws://127.0.0.1:1", "--env", "x"])
      assert.strictEqual(yield* exit, 2)
      assert.include(stderr(), "give --url or --env, not both")
      assert.isEmpty(readdirSync(yield* directory))
    })
  )
})
