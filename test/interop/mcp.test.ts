/** Genuine clients reach this server's tools over MCP, on stdio and over HTTP, and their models are told the truth. */
import { execFile } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directory } from "../support/files.js"
import { idIn, mcpUrl } from "../support/mcp.js"
import { binary, childrenOf, eventually, isAlive, runningWith, webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"
import * as Claude from "./support/claude.js"
import { type Client, call, codexAlone, install } from "./support/codex.js"
import * as Npm from "./support/npm.js"

const version = "0.169.0"

let marks = 0

/** Seconds that nothing else sleeps, so that the whole process table can be searched for them. */
const freshMark = () => String(87_000_000 + (process.pid % 10_000) * 100 + marks++)

const token = "0123456789abcdef0123456789abcdef"

/** Starts a client of an MCP server; it waits for the server before it asks its model. */
const codexWith = (access: string): Effect.Effect<Client, never, Scope.Scope> => {
  const config = `
    [mcp_servers.exec]
    required = true
    default_tools_approval_mode = "approve"
    ${access}`
  return codexAlone(version, { config }, { BUILD_TOKEN: token })
}

/** A client that starts its server. */
const onStdio = codexWith(`
    command = ${JSON.stringify(process.execPath)}
    args = ${JSON.stringify([binary, "mcp"])}`)

/** A server that wants a token. */
const tokenServer = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const file = join(yield* directory, "token")
    writeFileSync(file, token, { mode: 0o600 })
    return yield* webSocketServer({
      args: ["--mcp", "--ws-auth", "capability-token", "--ws-token-file", file, ...args]
    })
  })

/** A client of a server that wants a token. */
const overHttp = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const server = yield* tokenServer(...args)
    const client = yield* codexWith(`
    url = "${mcpUrl(server.url)}"
    bearer_token_env_var = "BUILD_TOKEN"`)
    return { client, server }
  })

/** Lets the model call a tool; gives the text that the model reads, without what the client puts before it. */
const use = (client: Client, name: string, args: object): Effect.Effect<string> =>
  Effect.map(client.call({ ...call(name, args), namespace: "mcp__exec" }), ({ whole }) =>
    whole.replace(/^Wall time: [\d.]+ seconds\nOutput:\n?/, "")
  )

/** Runs a command that stays, and gives its number. */
const leave = (client: Client, cmd: string) =>
  Effect.gen(function* () {
    const text = yield* use(client, "exec_command", { cmd, yield_time_ms: 250 })
    assert.match(text, /^\[still running after [\d.]+ s, session_id \d+\]\n/)
    return idIn(text)
  })

describe(`codex ${version}`, () => {
  beforeAll(() => install(version), Npm.installTimeoutMs)

  describe.each([
    ["on stdio", onStdio],
    ["over HTTP", Effect.map(overHttp(), ({ client }) => client)]
  ])("%s", (_, start) => {
    it.scopedLive("the model reads the state of a command, then its output", () =>
      Effect.gen(function* () {
        const client = yield* start
        const failed = yield* use(client, "exec_command", { cmd: "echo out; echo wörld >&2; exit 3" })
        assert.match(failed, /^\[exit code 3, after [\d.]+ s\]\nout\nwörld$/)
        const misspelt = yield* use(client, "exec_command", { command: "true" })
        assert.include(misspelt, "exec_command has no parameter command; it has cmd, ")
        yield* client.finish
      })
    )

    it.scopedLive("a long-running command is continued with write_stdin", () =>
      Effect.gen(function* () {
        const client = yield* start
        const session_id = yield* leave(client, "echo name?; read -r name; echo hello $name; read -r name; exit 4")
        yield* use(client, "write_stdin", { session_id, chars: "Ann\n" })
        const greeted = yield* use(client, "read_output", { session_id, wait_for: ["hello Ann"], offset: 0 })
        assert.include(greeted, "hello Ann")
        yield* use(client, "write_stdin", { session_id, chars: "\n" })
        assert.match(yield* use(client, "read_output", { session_id }), /^\[exit code 4, /)
        yield* client.finish
      })
    )
  })

  it.scopedLive("on stdio, SIGKILL of the client leaves no process", () =>
    Effect.gen(function* () {
      const client = yield* onStdio
      const mark = freshMark()
      const server = Number(/\n(\d+)$/.exec(yield* use(client, "exec_command", { cmd: "echo $PPID" }))?.[1])
      assert.isTrue(isAlive(server))
      yield* leave(client, `sleep ${mark}; sleep ${mark}`)
      yield* leave(client, `trap '' HUP TERM; setsid sleep ${mark} & sleep ${mark}; sleep ${mark}`)
      yield* eventually("all of them sleep", () => runningWith(`sleep\0${mark}`).length === 3)
      yield* client.kill
      yield* eventually("all of it is gone", () => runningWith(mark).length === 0 && !isAlive(server))
    })
  )

  it.scopedLive("over HTTP, commands end with the client, or some time after it was killed", () =>
    Effect.gen(function* () {
      const mark = freshMark()
      const first = yield* overHttp()
      yield* leave(first.client, `sleep ${mark}; sleep ${mark}`)
      assert.isNotEmpty(runningWith(mark))
      yield* first.client.finish
      yield* eventually("the server has no children", () => childrenOf(first.server.pid).length === 0)
      const second = yield* overHttp("--mcp-idle-ms", "2000")
      yield* leave(second.client, `sleep ${mark}; sleep ${mark}`)
      yield* second.client.kill
      yield* eventually("the server has no children", () => childrenOf(second.server.pid).length === 0, 30_000)
      assert.isEmpty(runningWith(mark))
    })
  )
})

describe("Claude Code", () => {
  beforeAll(Claude.install, Npm.installTimeoutMs)

  const stdio = { command: process.execPath, args: [binary, "mcp"] }

  /** A server that wants a token, as the client is configured for it. */
  const http = Effect.map(tokenServer(), ({ url }) => ({
    type: "http",
    url: mcpUrl(url),
    headers: { authorization: `Bearer ${token}` }
  }))

  it.scopedLive.each([
    ["on stdio", Effect.succeed(stdio)],
    ["over HTTP", http]
  ] as const)("%s, the model reads exit codes and output, and types into a command", ([, start]) =>
    Effect.gen(function* () {
      const script: Claude.Model = (results) => {
        const [, second] = results
        if (results.length === 0) {
          return { tool: "mcp__exec__exec_command", input: { cmd: "echo out; echo wörld >&2; exit 3" } }
        }
        if (second === undefined) {
          return {
            tool: "mcp__exec__exec_command",
            input: { cmd: "read -r name; echo hello $name", yield_time_ms: 250 }
          }
        }
        const input = { session_id: idIn(second), chars: "Ann\n" }
        return results.length === 2 ? { tool: "mcp__exec__write_stdin", input } : undefined
      }
      const client = yield* Claude.run(yield* start, script)
      assert.strictEqual(yield* client.exit, 0)
      const [first, , third] = client.told()
      assert.match(first ?? "", /^\[exit code 3, after [\d.]+ s\]\nout\nwörld$/)
      assert.match(third ?? "", /^\[exit code 0, .*\]\nhello Ann$/)
    })
  )

  it.scopedLive("on stdio, SIGKILL of the client leaves no process", () =>
    Effect.gen(function* () {
      const mark = freshMark()
      const cmd = `setsid sleep ${mark} & sleep ${mark}`
      const client = yield* Claude.run(stdio, (results) =>
        results.length === 0 ? { tool: "mcp__exec__exec_command", input: { cmd, yield_time_ms: 250 } } : "wait"
      )
      yield* eventually("the command runs on", () => client.told().length === 1, 30_000)
      assert.isNotEmpty(runningWith(mark))
      yield* client.kill
      yield* eventually("all of it is gone", () => runningWith(mark).length === 0)
    })
  )
})

describe("LangChain", () => {
  const [name, release] = ["@langchain/mcp-adapters", "1.1.4"]
  beforeAll(() => Npm.install(name, release), Npm.installTimeoutMs)

  interface Tool {
    readonly name: string
    readonly invoke: (input: object) => Promise<string>
  }

  /** The tools of a server, as the adapter gives them to an agent. */
  const toolsOf = (server: object) =>
    Effect.gen(function* () {
      const adapter = yield* Effect.promise(() => import(join(Npm.folderOf(name, release), name, "dist", "index.js")))
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new adapter.MultiServerMCPClient({ mcpServers: { exec: server } })),
        (client) => Effect.promise(() => client.close())
      )
      const tools = yield* Effect.promise<ReadonlyArray<Tool>>(() => client.getTools())
      return (tool: string, input: object) =>
        Effect.tryPromise({
          try: async () => (await tools.find((one) => one.name === tool)?.invoke(input)) ?? "there is no such tool",
          catch: String
        })
    })

  it.scopedLive.each([
    ["on stdio", Effect.succeed({ transport: "stdio", command: process.execPath, args: [binary, "mcp"] })],
    [
      "over HTTP",
      Effect.map(tokenServer(), ({ url }) => ({
        transport: "http",
        url: mcpUrl(url),
        headers: { authorization: `Bearer ${token}` }
      }))
    ]
  ] as const)("%s, an exit code is no exception, and a call that cannot be carried out is one", ([, start]) =>
    Effect.gen(function* () {
      const call = yield* toolsOf(yield* start)
      assert.match(yield* call("exec_command", { cmd: "echo out; exit 3" }), /^\[exit code 3, .*\]\nout$/)
      assert.include(yield* Effect.flip(call("read_output", { session_id: 1 })), "there is no session 1")
    })
  )
})

describe("MCP Inspector", () => {
  const [name, release] = ["@modelcontextprotocol/inspector", "2.12.0"]
  beforeAll(() => Npm.install(name, release), Npm.installTimeoutMs)

  /** Asks a server; gives the result. */
  const inspect = (...args: ReadonlyArray<string>) =>
    Effect.promise(async () => {
      const inspector = join(Npm.folderOf(name, release), ".bin", "mcp-inspector")
      const { stdout } = await promisify(execFile)(inspector, ["--cli", ...args], { timeout: 45_000 })
      return JSON.parse(stdout) as Json
    })

  it.live("lists the tools", () =>
    Effect.gen(function* () {
      const { tools } = yield* inspect(process.execPath, binary, "mcp", "--tools", "exec", "--method", "tools/list")
      assert.deepStrictEqual(
        tools.map((tool: Json) => tool.name),
        ["exec_command", "write_stdin", "read_output", "read_screen", "kill_session", "list_sessions"]
      )
    })
  )

  it.scopedLive.each([
    ["on stdio", Effect.succeed([process.execPath, binary, "mcp"])],
    [
      "over HTTP",
      Effect.map(tokenServer(), ({ url }) => [
        mcpUrl(url),
        "--transport",
        "http",
        "--header",
        `Authorization: Bearer ${token}`
      ])
    ]
  ] as const)("%s, calls a tool", ([, start]) =>
    Effect.gen(function* () {
      const call = ["--method", "tools/call", "--tool-name", "exec_command", "--tool-arg", "cmd=echo out; exit 3"]
      const { content, isError } = yield* inspect(...(yield* start), ...call)
      assert.match(content[0].text, /^\[exit code 3, after [\d.]+ s\]\nout$/)
      assert.isUndefined(isError)
    })
  )
})
