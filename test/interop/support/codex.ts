/** The genuine client: installed from npm once, then run with a model and a server of the test's. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fleet from "../../support/fleet.js"
import { binary, type LaunchOptions, type Running, webSocketServer } from "../../support/servers.js"
import { model } from "./model.js"
import * as Npm from "./npm.js"
import { proxyTo, type TcpProxy } from "./proxy.js"

/** How long the client may take for any one thing, in seconds: its own waits end after 30 at most. */
const patience = "45 seconds"

const genuine = "@openai/codex"

const program = (version: string) => join(Npm.folderOf(genuine, version), genuine, "bin", "codex.js")

/** Installs a version of the client, unless that has been done. */
export const install = (version: string): Promise<void> => Npm.install(genuine, version)

/** What a call of the model gave it. */
export interface Output {
  readonly exitCode: number | undefined
  /** Of a command that still runs. */
  readonly sessionId: number | undefined
  /** How much it was before the client shortened it, in the client's tokens. */
  readonly tokens: number | undefined
  readonly text: string
  /** All of what the client sent. */
  readonly whole: string
}

const outputOf = (whole: string): Output => {
  const found = (pattern: RegExp) => {
    const match = pattern.exec(whole)
    return match === null ? undefined : Number(match[1])
  }
  return {
    exitCode: found(/^Process exited with code (-?\d+)$/m),
    sessionId: found(/^Process running with session ID (\d+)$/m),
    tokens: found(/^Original token count: (\d+)$/m),
    text: whole.slice(whole.indexOf("Output:\n") + "Output:\n".length),
    whole
  }
}

/** One call of a tool, as the model says it. */
export const call = (name: string, args: object) => ({ type: "function_call", name, arguments: JSON.stringify(args) })

/** Runs a shell command; the client answers when it has ended, or after `yield_time_ms`. */
export const command = (cmd: string, more: object = {}) => call("exec_command", { cmd, ...more })

/** Writes to a command that still runs, and waits for what it gives. */
export const type = (session_id: number | undefined, chars: string, more: object = {}) =>
  call("write_stdin", { session_id, chars, ...more })

/** A running client, whose model is the test. */
export interface Client {
  /** Where its commands run. */
  readonly cwd: string
  /** What the client has last sent to its model. */
  readonly heard: () => string
  /** Lets the model make calls, all in one answer; gives their outputs. */
  readonly callAll: (calls: ReadonlyArray<object>) => Effect.Effect<ReadonlyArray<Output>>
  /** Lets the model make one call; gives its output. */
  readonly call: (item: object) => Effect.Effect<Output>
  /** Lets the model say its last words, and waits for the client's successful end. */
  readonly finish: Effect.Effect<void>
  /** Kills the client and its launcher with SIGKILL, and waits for their end. */
  readonly kill: Effect.Effect<void>
}

/** A client of a WebSocket server, or of the only host of a fleet. */
export interface Codex extends Client {
  readonly server: Running
  readonly proxy: TcpProxy
}

const folder = (name: string) =>
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), `exec-server-interop-${name}-`))),
    // What the client has started may still write to its folder.
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true, maxRetries: 10 }))
  )

const configuration = (baseUrl: string) => `
model = "mock"
model_provider = "mock"
check_for_update_on_startup = false
[model_providers.mock]
name = "mock"
base_url = "${baseUrl}"
wire_api = "responses"
env_key = "MOCK_KEY"
request_max_retries = 0
stream_max_retries = 0
[analytics]
enabled = false
`

/** Nothing may leave the machine: whatever does not go to it goes to a port that nobody listens on. */
const nowhere = "http://127.0.0.1:9"

const args = ["--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox"]

/** What a client finds when it starts. */
export interface Setting {
  /** Puts files where its commands will run. */
  readonly prepare?: (cwd: string) => void
  /** More of its configuration. */
  readonly config?: string
  /** How its server is started. */
  readonly server?: LaunchOptions
  /** Whether the server is a host, and the client connects to a gateway. */
  readonly throughGateway?: boolean
}

/** Starts a model and a client, told by files of its own or by the environment where commands run. */
const start = (
  version: string,
  { prepare = () => {}, config = "" }: Setting,
  files: Record<string, string>,
  environment: Record<string, string>
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { baseUrl, turns } = yield* model
    const home = yield* folder("home")
    const cwd = yield* folder("work")
    writeFileSync(join(home, "config.toml"), configuration(baseUrl) + config)
    for (const [name, text] of Object.entries(files)) writeFileSync(join(home, name), text)
    prepare(cwd)
    const env = {
      PATH: process.env["PATH"],
      HOME: home,
      CODEX_HOME: home,
      MOCK_KEY: "secret",
      HTTP_PROXY: nowhere,
      HTTPS_PROXY: nowhere,
      NO_PROXY: "127.0.0.1,localhost",
      ...environment
    }
    let log = ""
    const { exit, kill } = yield* Effect.acquireRelease(
      Effect.sync(() => {
        // In a group of its own: the program that npm installs is a launcher of the real one.
        const child = spawn(process.execPath, [program(version), "exec", ...args, "-C", cwd, "go"], {
          cwd,
          env,
          detached: true,
          stdio: ["ignore", "pipe", "pipe"]
        })
        for (const stream of [child.stdout, child.stderr]) {
          stream.on("data", (chunk) => {
            log = `${log}${chunk}`.slice(-20_000)
          })
        }
        const exit = new Promise<number | string>((resolve) => {
          child.once("exit", (code, signal) => resolve(signal ?? code ?? -1))
        })
        const kill = Effect.zipRight(
          Effect.sync(() => {
            try {
              if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
            } catch {
              // It has ended, as it should have.
            }
          }),
          Effect.promise(() => exit)
        )
        return { exit, kill: Effect.asVoid(kill) }
      }),
      ({ kill }) => kill
    )
    const inTime = <A>(what: string, effect: Effect.Effect<A>) =>
      Effect.catchAll(Effect.timeout(effect, patience), () => Effect.dieMessage(`${what} never came; client: ${log}`))
    const nextTurn = inTime("the client's request to its model", Queue.take(turns))
    let turn = yield* nextTurn
    let calls = 0

    const callAll = (items: ReadonlyArray<object>) =>
      Effect.gen(function* () {
        const named = items.map((item) => ({ ...item, call_id: `call_${++calls}` }))
        turn.say(named)
        turn = yield* nextTurn
        return named.map(({ call_id }) => {
          const output = turn.outputs.get(call_id)
          assert.isDefined(output, `the client gave no output for ${call_id}; it said ${log}`)
          return outputOf(output ?? "")
        })
      })

    const finish = Effect.gen(function* () {
      turn.say([{ type: "message", role: "assistant", content: [{ type: "output_text", text: "done" }] }])
      const code = yield* inTime(
        "the client's end",
        Effect.promise(() => exit)
      )
      assert.strictEqual(code, 0, log)
    })

    const one = (item: object) => Effect.map(callAll([item]), ([output]) => output ?? outputOf(""))
    return { cwd, heard: () => turn.text, callAll, call: one, finish, kill }
  })

/** Starts a model and a client that runs commands where its configuration says. */
export const codexAlone = (
  version: string,
  setting: Setting,
  environment: Record<string, string> = {}
): Effect.Effect<Client, never, Scope.Scope> => start(version, setting, {}, environment)

/** Starts a server, a model and a client of both; all end with the scope. */
export const codex = (version: string, setting: Setting = {}): Effect.Effect<Codex, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { server, url } = yield* setting.throughGateway === true ? host : alone(setting)
    const proxy = yield* proxyTo(url)
    const client = yield* start(version, setting, {}, { CODEX_EXEC_SERVER_URL: proxy.url })
    return { ...client, server, proxy }
  })

/** A server that the client connects to. */
const alone = ({ server }: Setting) => Effect.map(webSocketServer(server), (server) => ({ server, url: server.url }))

/** The only host of a fleet, and the address of the gateway. */
const host = Effect.flatMap(Fleet.gatewayAlone(), (door) =>
  Effect.map(Fleet.host(door, "h1"), (server) => ({ server, url: door.url }))
)

/** Starts a model and a client that starts its server itself, with these arguments. */
export const codexOnStdio = (
  version: string,
  serverArgs: ReadonlyArray<string>
): Effect.Effect<Client, never, Scope.Scope> => {
  const environments = `
default = "here"
include_local = false
[[environments]]
id = "here"
program = ${JSON.stringify(process.execPath)}
args = ${JSON.stringify([binary, ...serverArgs])}
`
  return start(version, {}, { "environments.toml": environments }, {})
}

/** Starts the genuine server on a free port; it ends with the scope, and what it has started with it. */
export const genuineServer = (version: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const home = yield* folder("home")
    const args = [program(version), "exec-server", "--listen", "ws://127.0.0.1:0"]
    const env = { PATH: process.env["PATH"], HOME: home, CODEX_HOME: home }
    const { child, exit } = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, args, { cwd: home, env, detached: true, stdio: ["pipe", "pipe", "pipe"] })
        const exit = new Promise<void>((resolve) => child.once("exit", () => resolve()))
        return { child, exit }
      }),
      ({ child, exit }) =>
        Effect.zipRight(
          Effect.sync(() => {
            // The launcher hands it on to the program.
            child.kill("SIGTERM")
          }),
          Effect.promise(() => exit)
        )
    )
    let said = ""
    const url = Effect.async<string>((resume) => {
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (chunk) => {
          said += chunk
          const found = /ws:\/\/127\.0\.0\.1:\d+/.exec(said)
          if (found !== null) resume(Effect.succeed(found[0]))
        })
      }
    })
    return yield* Effect.raceFirst(
      url,
      Effect.flatMap(
        Effect.promise(() => exit),
        () => Effect.dieMessage(`the genuine server has ended: ${said}`)
      )
    ).pipe(
      Effect.timeout(patience),
      Effect.catchAll(() => Effect.dieMessage(`the genuine server told no address: ${said}`))
    )
  })

/** Starts a model and a client of an environment behind an encrypted relay. */
export const codexOverNoise = (
  version: string,
  registry: { readonly url: string; readonly environmentId: string; readonly token: string }
): Effect.Effect<Client, never, Scope.Scope> =>
  start(
    version,
    {},
    {},
    {
      CODEX_EXEC_SERVER_NOISE_REGISTRY_URL: registry.url,
      CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID: registry.environmentId,
      CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN: registry.token
    }
  )

/** Starts the genuine server as an executor, or in front of another server; it ends with the scope. */
export const genuineExecutor = (
  version: string,
  registry: { readonly url: string; readonly environmentId: string; readonly token: string },
  connect?: string
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const home = yield* folder("home")
    const { url, environmentId, token } = registry
    const before = connect === undefined ? [] : ["forward", "--connect", connect]
    const args = [program(version), "exec-server", ...before, "--remote", url, "--environment-id", environmentId]
    const env = { PATH: process.env["PATH"], HOME: home, CODEX_HOME: home, CODEX_API_KEY: token }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, args, { cwd: home, env, stdio: ["pipe", "ignore", "ignore"] })
        const exit = new Promise<void>((resolve) => child.once("exit", () => resolve()))
        return { child, exit }
      }),
      ({ child, exit }) =>
        Effect.zipRight(
          // The launcher hands it on to the program.
          Effect.sync(() => child.kill("SIGTERM")),
          Effect.promise(() => exit)
        )
    )
  })
