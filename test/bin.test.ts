/** The command: what it prints, how it fails, how it ends. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command, isOneLine } from "./support/command.js"
import { answer, asks, ends, upgrade } from "./support/raw.js"
import {
  connectTo,
  eventually,
  isAlive,
  type LaunchOptions,
  rawSocket,
  stdioClient,
  webSocketServer
} from "./support/servers.js"

const envPolicy = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] }

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-server-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

describe("exec-server", () => {
  it.scopedLive("--version and --help", () =>
    Effect.gen(function* () {
      assert.match((yield* command(["--version"])).stdout, /^\d+\.\d+\.\d+/)
      const help = yield* command(["--help"])
      assert.strictEqual(help.code, 0)
      for (const word of ["--listen", "--config", "--max-sessions", "EXEC_SERVER_MAX_SESSIONS", "default 1024"]) {
        assert.include(help.stdout, word)
      }
    })
  )

  it.scopedLive("usage errors are explained on stderr and exit with 2", () =>
    Effect.gen(function* () {
      for (const args of [["--bogus"], ["--listen"], ["stray"], ["--ws-auth", "password"]]) {
        const { code, stdout, stderr } = yield* command(args)
        assert.strictEqual(code, 2, args.join(" "))
        assert.strictEqual(stdout, "")
        assert.notStrictEqual(stderr, "")
      }
    })
  )

  it.scopedLive("with --exit-on-stdin-close the end of stdin ends a server in order; without, it is nothing", () =>
    Effect.gen(function* () {
      const script = 'trap "echo asked; exit 3" TERM; echo ready; while :; do sleep 0.05; done'
      for (const ended of [true, false]) {
        const server = yield* webSocketServer({ args: ended ? ["--exit-on-stdin-close"] : [] })
        const client = yield* server.connect
        yield* client.handshake()
        yield* client.sh("p", script)
        yield* client.sees("p", "ready")
        server.child.stdin?.end("what is written there is nobody's message\n")
        if (ended) {
          assert.strictEqual((yield* client.ended()).code, 1001)
          assert.strictEqual(yield* server.exit, 0)
          assert.match(server.stderr(), /the shutdown has ended 1 process: p \(pid \d+, status 3\)/)
        } else {
          assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
          assert.isNull(server.child.exitCode)
        }
      }
    })
  )

  it.scopedLive("--concurrent-requests bounds what one connection has under way; the rest waits in order", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--concurrent-requests", "2"] })
      const [client, other] = [yield* server.connect, yield* server.connect]
      for (const each of [client, other]) yield* each.handshake()
      const { pid } = yield* client.start("c", ["cat"], { pipeStdin: true })
      const first = client.post("process/wait", { processId: "c" })
      const second = client.post("process/wait", { processId: "c" })
      const status = client.post("environment/status")
      client.post("process/write", { processId: "c", chunk: "YQ==" })
      client.post("process/write", { processId: "c", chunk: "Yg==" })
      // Another connection has a bound of its own, and its answer comes after whatever the first one was given.
      yield* other.ask("environment/status")
      assert.isEmpty(client.messages.filter(({ id }) => id === first || id === second || id === status))
      process.kill(pid, "SIGTERM")
      const held = [status, status + 1, status + 2]
      for (const id of [first, second, ...held]) assert.isDefined((yield* client.reply(id)).result)
      const ids = client.messages.flatMap(({ id }) => (id === undefined ? [] : [id]))
      const afterFirst = ids.slice(ids.indexOf(first))
      assert.deepStrictEqual(
        afterFirst.filter((id) => held.includes(id)),
        held
      )
      for (const bad of ["0", "-1", "x"]) {
        const { code, stderr } = yield* command(["--concurrent-requests", bad])
        assert.notStrictEqual(code, 0)
        assert.match(stderr, /--concurrent-requests: ".*" is not a whole number of 1 or more/)
      }
    })
  )

  /** Starts that fail: arguments, what is said, and variables if they are what is wrong. */
  type Cases = ReadonlyArray<readonly [args: ReadonlyArray<string>, said: RegExp, env?: Record<string, string>]>

  const fail = (status: number, cases: Cases) =>
    Effect.gen(function* () {
      for (const [args, message, env = {}] of cases) {
        const { code, stdout, stderr } = yield* command(args, { env })
        assert.match(stderr, message, args.join(" "))
        isOneLine(stderr, args.join(" "))
        assert.deepStrictEqual([code, stdout], [status, ""], `${args.join(" ")} ${JSON.stringify(env)}`)
      }
    })

  it.scopedLive("what cannot be done is one line on stderr, and status 1", () =>
    Effect.gen(function* () {
      const taken = createServer()
      yield* Effect.promise(() => new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve)))
      yield* Effect.addFinalizer(() => Effect.sync(() => taken.close()))
      const address = taken.address()
      const port = typeof address === "object" ? address?.port : 0
      const empty = join(yield* folder, "empty")
      writeFileSync(empty, "")
      const websocket = ["--listen", "ws://127.0.0.1:0"]
      yield* fail(1, [
        [["--listen", `ws://127.0.0.1:${port}`], /^Error: cannot listen on .*: the port is in use; .*\n$/],
        [["--listen", "unix:///no/such/folder/s"], /^Error: cannot listen on .*: No such file or directory.*\n$/],
        [
          [...websocket, "--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", "/no/file"],
          /^Error: failed to read websocket auth secret \/no\/file: No such file or directory \(os error 2\)\n$/
        ],
        [
          [...websocket, "--ws-auth", "capability-token", "--ws-token-file", empty],
          /^Error: failed to read websocket auth secret .*: it is empty\n$/
        ],
        [
          [...websocket, "--tls-cert", "/no/cert", "--tls-key", "/no/key"],
          /^Error: cannot read the TLS certificate \/no\/cert: No such file or directory \(os error 2\)\n$/
        ],
        [
          ["--remote", "http://127.0.0.1:1", "--environment-id", "e", "--remote-token-file", "/no/file"],
          /^Error: cannot read the remote token \/no\/file: No such file/
        ],
        [["--contain", "namespace"], /^Error: cannot contain processes: bubblewrap/, { PATH: "/nowhere" }],
        [["--config", "/no/such/file"], /^Error: cannot read the configuration file \/no\/such\/file: No such file/],
        [[], /^Error: cannot read the configuration file \/: Is a directory/, { EXEC_SERVER_CONFIG: "/" }]
      ])
    })
  )

  it.scopedLive("a flag, a variable or a file that makes no sense is one line on stderr, and status 2", () =>
    Effect.gen(function* () {
      const files = yield* folder
      const file = (name: string, text: string) => {
        const path = join(files, name)
        writeFileSync(path, text)
        return path
      }
      const remote = ["--remote", "http://127.0.0.1:1", "--environment-id", "e"]
      yield* fail(2, [
        [
          ["--listen", "http://x"],
          /^Error: unsupported --listen URL `http:\/\/x`; expected `ws:\/\/IP:PORT` or `stdio`, or `unix:\/\/\/PATH`\n$/
        ],
        [["--listen", "foo"], /^Error: unsupported --listen URL/],
        [[], /^Error: unsupported --listen URL/, { EXEC_SERVER_LISTEN: "foo" }],
        [
          ["--listen", "wss://127.0.0.1:1"],
          /^Error: --listen wss:\S+ needs a certificate: give --tls-cert and --tls-key\n$/
        ],
        [
          ["--listen", "ws://localhost:1234"],
          /^Error: invalid websocket --listen URL `ws:\/\/localhost:1234`; expected `ws:\/\/IP:PORT`\n$/
        ],
        [["--listen", "ws://127.0.0.1"], /^Error: invalid websocket --listen URL/],
        [["--listen", "ws://127.0.0.1:99999"], /^Error: invalid websocket --listen URL/],
        [["--listen", "ws://0.0.0.0:0"], /^Error: refusing to listen on .*--insecure.*\n$/],
        [
          ["--listen", "unix://relative"],
          /^Error: invalid unix --listen URL `unix:\/\/relative`; expected `unix:\/\/\/PATH`\n$/
        ],
        [["--ws-auth", "capability-token"], /^Error: `--ws-token-file` or `--ws-token-sha256` is required when/],
        [["--ws-issuer", "i"], /^Error: websocket auth flags require `--ws-auth capability-token` or /],
        [
          ["--ws-auth", "capability-token", "--ws-token-sha256", "0".repeat(64)],
          /^Error: WebSocket auth requires a WebSocket listener, not stdio\n$/
        ],
        [
          ["--ws-auth", "signed-bearer-token", "--ws-token-file", "f", "--ws-shared-secret-file", "g"],
          /^Error: `--ws-token-file` and `--ws-token-sha256` require `--ws-auth capability-token`/
        ],
        [["--tls-cert", "c"], /^Error: `--tls-key` is missing/],
        [["--listen", "ws://127.0.0.1:0", "--allow-origin", "*"], /^Error: --allow-origin: "\*" is not an origin/],
        [["--otlp-endpoint", "foo"], /^Error: --otlp-endpoint: expected an http:\/\/ or https:\/\/ URL\n$/],
        [["--max-sessions", "x"], /^Error: --max-sessions: "x" is not a whole number/],
        [[], /^Error: EXEC_SERVER_MAX_SESSIONS: "x" is not a whole number/, { EXEC_SERVER_MAX_SESSIONS: "x" }],
        [[], /^Error: EXEC_SERVER_CONTAIN: "x" is not one of none, namespace\n$/, { EXEC_SERVER_CONTAIN: "x" }],
        [["--config", file("a", 'maxSessions = "x"')], /^Error: .*: maxSessions must be a number\n$/],
        [["--config", file("b", "maxSessions = -1")], /^Error: .*: maxSessions: "-1" is not a whole number/],
        [[], /^Error: .*: unknown key bogus; the keys are .*\n$/, { EXEC_SERVER_CONFIG: file("c", "bogus = 1") }],
        [["--config", file("d", "maxSessions = ")], /^Error: cannot read the configuration file .*: Invalid/],
        [["config", "print", "--config", file("e", "x = 1")], /^Error: .*: unknown key x/],
        [
          [],
          /^Error: EXEC_SERVER_AUDIT_LOG: "" is not the name of a file; leave it out instead\n$/,
          { EXEC_SERVER_AUDIT_LOG: "" }
        ],
        [[], /^Error: EXEC_SERVER_CONFIG: "" is not the name of a file/, { EXEC_SERVER_CONFIG: "" }],
        [["--allow-origin", "https://a.example"], /^Error: --allow-origin requires a WebSocket listener, not stdio\n$/],
        [["--remote-token-file", "f"], /^Error: --remote-token-file requires --remote\n$/],
        [[...remote, "--listen", "ws://127.0.0.1:0"], /^Error: --listen and --remote exclude each other/],
        [["--environment-id", "e"], /^Error: environment registry base URL is required\n$/],
        [["--remote", "http://127.0.0.1:1"], /^Error: environment id is required/],
        [["--remote", "foo", "--environment-id", "e"], /^Error: invalid remote exec-server registration URL/],
        [["--remote", "http://127.0.0.1:1", "--environment-id", "a b"], /^Error: environment id must contain only/],
        [remote, /^Error: remote exec-server registration requires authentication; give --remote-token-file/],
        [remote, /^Error: the remote token in EXEC_SERVER_REMOTE_TOKEN is empty/, { EXEC_SERVER_REMOTE_TOKEN: "a b" }],
        [
          ["--remote", "http://example.com", "--environment-id", "e", "--remote-token-file", "f"],
          /^Error: refusing to send the remote token over plain http; use https, or pass --insecure\n$/
        ]
      ])
    })
  )

  it.scopedLive("a public address is listened on when told that something else authenticates", () =>
    Effect.gen(function* () {
      const { connect } = yield* webSocketServer({ listen: "ws://0.0.0.0:0", args: ["--insecure"] })
      yield* (yield* connect).handshake()
    })
  )

  it.scopedLive("with authentication a public address is, too; the secret is seen nowhere", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "token")
      writeFileSync(path, "hunter2\n")
      const { child, pid, stderr, url } = yield* webSocketServer({
        listen: "ws://0.0.0.0:0",
        args: ["--ws-auth", "capability-token", "--ws-token-file", path],
        env: { EXEC_SERVER_LOG_LEVEL: "all" }
      })
      const refused = yield* asks(yield* rawSocket(url), upgrade("/", "Authorization: Bearer *******\r\n"))
      assert.strictEqual(refused.status, 401)
      const client = yield* connectTo(url, { headers: { authorization: "Bearer hunter2" } })
      yield* client.handshake()
      for (const name of ["cmdline", "environ"]) {
        assert.notInclude(readFileSync(`/proc/${pid}/${name}`, "latin1"), "hunter2")
      }
      yield* client.sh("p", "env; cat /proc/self/environ", { envPolicy })
      yield* client.closed("p")
      assert.notInclude(client.output("p").toString(), "hunter2")
      child.kill("SIGTERM")
      yield* client.ended()
      yield* eventually("the refusal is in the log", () => stderr().includes("the token is wrong"))
      assert.notInclude(stderr(), "hunter2")
      assert.notInclude(stderr(), "*******")
    })
  )

  it.scopedLive("settings of every kind reach the transport", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({
        args: ["--max-connections", "1", "--handshake-timeout-ms", "2000", "--allow-origin", "https://a.example"],
        env: { EXEC_SERVER_PING_INTERVAL_MS: "500" }
      })
      const socket = yield* rawSocket(server.url)
      const first = yield* asks(socket, upgrade("/", "Origin: https://a.example\r\n"))
      assert.strictEqual(first.status, 101)
      assert.strictEqual((yield* asks(yield* rawSocket(server.url), upgrade())).status, 503)
      // Pings, until it is closed: whichever of the two limits comes first.
      assert.include((yield* ends(socket)).toString("latin1"), "\x89\x00")
      const late = yield* server.connect
      assert.strictEqual((yield* late.ended()).code, 1008)
    })
  )

  it.scopedLive("while it shuts down it lives, but is not ready, and accepts nobody", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--shutdown-grace-period-ms", "20000"] })
      const client = yield* server.connect
      yield* client.handshake()
      const gate = join(yield* folder, "gate")
      yield* client.sh(
        "p",
        `trap 'until [ -e ${gate} ]; do sleep 0.02; done; exit' TERM; echo ready; while :; do sleep 0.02; done`
      )
      yield* client.sees("p", "ready")
      for (const path of ["/readyz", "/livez"]) assert.strictEqual((yield* answer(`${server.url}${path}`)).status, 200)
      server.child.kill("SIGTERM")
      yield* client.ended()
      assert.strictEqual((yield* answer(`${server.url}/readyz`)).status, 503)
      assert.strictEqual((yield* answer(`${server.url}/livez`)).status, 200)
      assert.strictEqual((yield* asks(yield* rawSocket(server.url), upgrade())).status, 503)
      writeFileSync(gate, "")
      assert.strictEqual(yield* server.exit, 0)
    })
  )

  it.scopedLive("flag before environment before file before default", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "config.toml")
      writeFileSync(path, "maxProcessesPerSession = 3\nallowDirectExec = true\n")
      const limit = (options: LaunchOptions) =>
        Effect.gen(function* () {
          const client = yield* (yield* webSocketServer(options)).connect
          yield* client.handshake()
          for (let i = 0; ; i++) {
            const params = { processId: `p${i}`, argv: ["sleep", "100"], cwd: "/tmp", env: {}, tty: false }
            const { error } = yield* client.call("process/start", params)
            if (error === undefined) continue
            assert.strictEqual(error.code, -32600)
            assert.include(error.message, `maxProcessesPerSession (${i})`)
            return i
          }
        }).pipe(Effect.scoped)
      const env = { EXEC_SERVER_MAX_PROCESSES_PER_SESSION: "2" }
      assert.strictEqual(yield* limit({ args: ["--config", path] }), 3)
      assert.strictEqual(yield* limit({ args: ["--config", path], env }), 2)
      assert.strictEqual(yield* limit({ args: ["--config", path, "--max-processes-per-session", "1"], env }), 1)
      writeFileSync(path, "maxProcesses = 3\n")
      assert.match((yield* command(["--config", path])).stderr, /unknown key maxProcesses; the keys are .*maxSessions/)
      writeFileSync(path, "maxSessions = \n")
      assert.match((yield* command(["--config", path])).stderr, /^Error: cannot read the configuration file .*\n$/)
    })
  )

  it.scopedLive("direct and prepared starts can each be switched off", () =>
    Effect.gen(function* () {
      const client = yield* (yield* webSocketServer({ args: ["--allow-direct-exec", "false"] })).connect
      yield* client.handshake()
      const params = { processId: "p", argv: ["true"], cwd: "/tmp", env: {}, tty: false }
      const { error } = yield* client.call("process/start", params)
      assert.strictEqual(error.code, -32600)
      assert.include(error.message, "allowDirectExec")
      yield* client.ask("process/start", { ...params, prepared: true })
      yield* client.closed("p")
    })
  )

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.scopedLive(
      `${signal} gives processes their grace, ends them all, tells clients with 1001, and exits with 0`,
      () =>
        Effect.gen(function* () {
          const server = yield* webSocketServer({ args: ["--shutdown-grace-period-ms", "500"] })
          const path = join(yield* folder, "marker")
          const client = yield* server.connect
          yield* client.handshake()
          const script = `trap 'sleep 0.1; echo done > ${path}; exit 0' TERM; echo ready; while :; do sleep 0.02; done`
          yield* client.sh("nice", script)
          const rude = yield* client.sh(
            "rude",
            "trap '' TERM HUP INT; sleep 1000 & setsid sleep 1000 & echo ready; wait; sleep 1000"
          )
          const tty = yield* client.sh("tty", "trap '' TERM HUP; echo ready; sleep 1000; sleep 1000", { tty: true })
          yield* client.sees("nice", "ready")
          yield* client.sees("rude", "ready")
          yield* client.sees("tty", "ready", "pty")
          server.child.kill(signal)
          assert.strictEqual((yield* client.ended()).code, 1001)
          assert.strictEqual(yield* server.exit, 0)
          assert.isFalse(isAlive(rude.pid) || isAlive(tty.pid))
          assert.isTrue(existsSync(path))
          yield* eventually("no descendant is left", () => !isAlive(rude.pid))
          const report = server.stderr()
          assert.include(report, "the shutdown has ended 3 processes")
          assert.match(report, /nice \(pid \d+, status 0\)/)
          for (const [id, { pid }] of [
            ["rude", rude],
            ["tty", tty]
          ] as const) {
            assert.include(report, `${id} (pid ${pid}, SIGKILL)`)
          }
          assert.notInclude(report, "sleep")
        })
    )
  }

  it.scopedLive("SIGTERM gives the processes of a stdio client their grace as well, and says what was ended", () =>
    Effect.gen(function* () {
      const { client, server } = yield* stdioClient({ args: ["--shutdown-grace-period-ms", "20000"] })
      yield* client.handshake({})
      const path = join(yield* folder, "marker")
      yield* client.sh("p", `trap 'echo done > ${path}; exit 0' TERM; echo ready; while :; do sleep 0.02; done`)
      yield* client.sees("p", "ready")
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      assert.strictEqual(readFileSync(path, "utf8"), "done\n")
      assert.match(server.stderr(), /the shutdown has ended 1 process: p \(pid \d+, status 0\)/)
    })
  )

  it.scopedLive("a second signal forces: nobody waits for the grace, and nothing survives", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--shutdown-grace-period-ms", "20000"] })
      const client = yield* server.connect
      yield* client.handshake()
      const { pid } = yield* client.sh("p", "trap '' TERM HUP; echo ready; sleep 1000; sleep 1000")
      yield* client.sees("p", "ready")
      server.child.kill("SIGTERM")
      yield* client.ended()
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit.pipe(Effect.timeout("10 seconds")), 0)
      assert.isFalse(isAlive(pid))
      assert.include(server.stderr(), `the shutdown has ended 1 process: p (pid ${pid}, SIGKILL)`)
    })
  )
})
