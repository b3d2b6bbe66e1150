/** `exec-server service print`: units that systemd accepts, and that start the server that was described. */
import { spawnSync } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { binary, launch, webSocketServer } from "../support/servers.js"

interface Printed {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

const print = (args: ReadonlyArray<string>, cwd?: string): Printed =>
  spawnSync(process.execPath, [binary, "service", "print", ...args], {
    encoding: "utf8",
    cwd,
    env: { ...process.env, EXEC_SERVER_LISTEN: "stdio", EXEC_SERVER_MAX_SESSIONS: "7" }
  })

/** Names that systemd knows, of what is printed; a wrong one is a warning of `systemd-analyze`, and has no effect. */
const keys = new Set(
  (
    "Description Requires Wants After Type NotifyAccess ExecStart ExecReload User WorkingDirectory RuntimeDirectory " +
    "LogsDirectory StateDirectory WatchdogSec Restart RestartPreventExitStatus KillMode TimeoutStopSec OOMPolicy " +
    "Delegate LimitNOFILE NoNewPrivileges CapabilityBoundingSet AmbientCapabilities ProtectSystem PrivateTmp " +
    "PrivateDevices ProtectClock ProtectHostname ProtectKernelModules RestrictAddressFamilies RestrictRealtime " +
    "RestrictSUIDSGID LockPersonality WantedBy Also ListenStream SocketMode SocketUser FileDescriptorName"
  ).split(" ")
)

/** The assignments of a unit, by section. Fails for anything else. */
const parse = (text: string) => {
  const sections = new Map<string, Map<string, string>>()
  let current: Map<string, string> | undefined
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue
    const [, section] = /^\[(\w+)\]$/.exec(line) ?? []
    if (section !== undefined) {
      current = new Map()
      sections.set(section, current)
      continue
    }
    const [, key = "", value = ""] = /^(\w+)=(.*)$/.exec(line) ?? []
    assert.isTrue(keys.has(key), line)
    assert.isFalse(current?.has(key), line)
    current?.set(key, value)
  }
  return (section: string, key: string) => sections.get(section)?.get(key)
}

/** The words of a command line of a unit, as systemd reads them. */
const wordsOf = (line: string) =>
  Array.from(line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g), ([, quoted, plain]) =>
    (plain ?? (quoted ?? "").replace(/\\(.)/g, "$1")).replaceAll("%%", "%").replaceAll("$$", "$")
  )

const ok = ({ status, stdout, stderr }: Printed) => {
  assert.strictEqual(status, 0, stderr)
  return stdout
}

const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0

describe("service print", () => {
  it("is a service with the flags that are given, and with nothing of the environment", () => {
    const service = parse(ok(print(["--listen", "ws://127.0.0.1:8080", "--max-shares=3", "--console=false", "--mcp"])))
    assert.deepStrictEqual(wordsOf(service("Service", "ExecStart") ?? ""), [
      process.execPath,
      binary,
      ..."--listen ws://127.0.0.1:8080 --max-shares 3 --console false --mcp".split(" ")
    ])
    assert.strictEqual(service("Service", "Type"), "notify")
    const reload = service("Service", "ExecReload") ?? ""
    assert.deepStrictEqual(wordsOf(reload), [process.execPath, binary, "upgrade", "--pid", "$MAINPID"])
    assert.strictEqual(service("Service", "User"), "exec-server")
    assert.strictEqual(service("Service", "CapabilityBoundingSet"), "")
    assert.strictEqual(service("Unit", "After"), "network.target")
  })

  it("reloads through the control socket of the server, if it has one", () => {
    const listen = ["--listen", "ws://127.0.0.1:8080", "--control-socket"]
    const service = parse(ok(print([...listen, "own.sock"], "/tmp")))
    for (const key of ["ExecStart", "ExecReload"]) {
      assert.deepStrictEqual(wordsOf(service("Service", key) ?? "").slice(-2), ["--control-socket", "/tmp/own.sock"])
    }
    assert.isUndefined(parse(ok(print([...listen, "none"])))("Service", "ExecReload"))
  })

  it.scopedLive("makes paths absolute, and quotes what means something to systemd", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const odd = join(folder, 'a "b" %h $HOME \\')
      mkdirSync(odd)
      writeFileSync(join(odd, "token"), "token")
      chmodSync(join(odd, "token"), 0o600)
      const args = ["--listen", "ws://127.0.0.1:0", "--console-token-file", "token"]
      const text = ok(print([...args.slice(2), "--listen", "ws://127.0.0.1:8080"], odd))
      const [, , ...words] = wordsOf(parse(text)("Service", "ExecStart") ?? "")
      assert.deepStrictEqual(words.slice(2), ["--console-token-file", join(odd, "token")])
      // A server starts with them.
      yield* webSocketServer({ args: words.slice(2) })
    })
  )

  it("has folders and limits that fit its settings", () => {
    const paths = ["--audit-log", "/var/log/own/audit", "--recordings-dir", "/var/lib/own/recordings"]
    const listen = ["--listen", "unix:///run/own/socket", "--shutdown-grace-period-ms", "30500"]
    const service = parse(ok(print([...listen, ...paths])))
    assert.strictEqual(service("Service", "RuntimeDirectory"), "own")
    assert.strictEqual(service("Service", "LogsDirectory"), "own")
    assert.strictEqual(service("Service", "StateDirectory"), "own")
    assert.strictEqual(service("Service", "TimeoutStopSec"), "41")
    assert.strictEqual(service("Service", "PrivateTmp"), "yes")
    assert.strictEqual(parse(ok(print(["--listen", "unix:///tmp/socket"])))("Service", "PrivateTmp"), undefined)
  })

  it("of root has no user, and keeps root's privileges", () => {
    const service = parse(ok(print(["--listen", "ws://0.0.0.0:1", "--insecure", "--run-as", "root"])))
    assert.strictEqual(service("Service", "User"), undefined)
    assert.strictEqual(service("Service", "CapabilityBoundingSet"), undefined)
    assert.strictEqual(service("Unit", "Wants"), "network-online.target")
  })

  for (const [listen, stream] of [
    ["ws://127.0.0.1:8080", "127.0.0.1:8080"],
    ["ws://[::1]:8080", "[::1]:8080"],
    ["unix:///run/own 50%/socket", "/run/own 50%%/socket"]
  ] as const) {
    it.scopedLive(`--socket: systemd listens on ${listen}`, () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const written = ok(print(["--socket", "--listen", listen, "--directory", folder]))
          .trim()
          .split("\n")
        assert.deepStrictEqual(
          written,
          ["exec-server.service", "exec-server.socket"].map((file) => join(folder, file))
        )
        const [service, socket] = written.map((path) => parse(readFileSync(path, "utf8")))
        assert.strictEqual(socket?.("Socket", "ListenStream"), stream)
        assert.strictEqual(socket?.("Socket", "SocketUser"), listen.startsWith("unix") ? "exec-server" : undefined)
        assert.strictEqual(service?.("Unit", "Requires"), "exec-server.socket")
        assert.deepStrictEqual(wordsOf(service?.("Service", "ExecStart") ?? "").slice(2), ["--listen", "fd://"])
        const again = print(["--socket", "--listen", listen, "--directory", folder])
        assert.strictEqual(again.status, 1)
        assert.match(again.stderr, /cannot write .*exec-server\.service: File exists/)
      })
    )
  }

  it.scopedLive.skipIf(!hasSystemd)("is accepted by systemd, to the last name", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const listen = ["--socket", "--listen", "unix:///run/exec-server/socket", "--audit-log", "/var/log/own/audit"]
      const paths = ok(print([...listen, "--directory", folder]))
        .trim()
        .split("\n")
      const verify = () => spawnSync("systemd-analyze", ["verify", ...paths], { encoding: "utf8" })
      const { status, stderr } = verify()
      assert.strictEqual(stderr, "")
      assert.strictEqual(status, 0)
      const [service = ""] = paths
      writeFileSync(service, readFileSync(service, "utf8").replace("OOMPolicy=continue", "OOMPolicies=continue"))
      assert.include(verify().stderr, "OOMPolicies", "it would say so")
    })
  )

  for (const [args, status, message] of [
    [[], 2, "a service serves many clients: give --listen ws://IP:PORT or unix:///PATH, or --remote"],
    [["--listen", "ws://127.0.0.1:0"], 2, "give a port other than 0"],
    [["--listen", "ws://0.0.0.0:80"], 2, "refusing to listen on ws://0.0.0.0:80"],
    [["--listen", "ws://127.0.0.1:80", "--max-sessions", "x"], 2, '--max-sessions: "x" is not a whole number'],
    [["--listen", "ws://127.0.0.1:80", "--run-as", "a b"], 2, '--run-as: "a b" is not a user name'],
    [["--listen", "ws://127.0.0.1:80", "--ws-issuer", "a\nb", "--ws-auth=signed-bearer-token"], 2, "secret-file"],
    [
      "--socket --remote http://127.0.0.1:1 --environment-id e --remote-token-file f".split(" "),
      2,
      "--socket is for servers that listen"
    ],
    [["--listen", "ws://127.0.0.1:80", "--directory", "/nonexistent"], 1, "No such file or directory"]
  ] as const) {
    it(`refuses ${JSON.stringify(args)}`, () => {
      const printed = print(args)
      assert.strictEqual(printed.status, status)
      assert.include(printed.stderr, message)
      assert.strictEqual(printed.stdout, "")
    })
  }
})

describe("stderr that is the journal", () => {
  /** Runs a server whose stderr is a file, and JOURNAL_STREAM that file or what is given. */
  const journal = (file: string, stream = `$(stat -c %d:%i "${file}")`) =>
    `exec 2>"${file}"; export JOURNAL_STREAM=${stream}; exec "$@"`

  it.scopedLive("gets the priority of each line, and no time", () =>
    Effect.gen(function* () {
      const file = join(yield* directory, "log")
      const server = yield* webSocketServer({ under: journal(file), args: ["--log-level", "debug"] })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("p", ["/bin/sleep", "600"])
      server.child.kill("SIGTERM")
      yield* server.exit
      const log = readFileSync(file, "utf8")
      assert.match(log, /^<7>fiber=#\d+ message=session\.opened /m)
      assert.match(log, /^<4>fiber=#\d+ message="the shutdown has ended 1 process/m)
      assert.notMatch(log, /timestamp=|level=/)
    })
  )

  it.scopedLive("gets errors as such, and JSON as it is", () =>
    Effect.gen(function* () {
      const file = join(yield* directory, "log")
      const failed = yield* launch({ under: journal(file), args: ["--listen", "ws://0.0.0.0:0"] })
      assert.strictEqual(yield* failed.exit, 2)
      assert.match(readFileSync(file, "utf8"), /^<3>Error: refusing to listen/)
      const args = ["--log-level", "debug", "--log-format", "json"]
      const server = yield* webSocketServer({ under: journal(file), args })
      yield* (yield* server.connect).handshake()
      server.child.kill("SIGTERM")
      yield* server.exit
      const [, entry = ""] = /^<7>(\{.*\})$/m.exec(readFileSync(file, "utf8")) ?? []
      assert.strictEqual(JSON.parse(entry).level, "DEBUG")
    })
  )

  it.scopedLive("is not where another program's was", () =>
    Effect.gen(function* () {
      const file = join(yield* directory, "log")
      const failed = yield* launch({ under: journal(file, "1:1"), args: ["--listen", "ws://0.0.0.0:0"] })
      assert.strictEqual(yield* failed.exit, 2)
      assert.match(readFileSync(file, "utf8"), /^Error: refusing to listen/)
    })
  )
})
