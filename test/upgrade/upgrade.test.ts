import { createHash, randomBytes } from "node:crypto"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { WebSocket } from "ws"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import type { RemoteProcess } from "../../src/client/RemoteProcess.js"
import { version } from "../../src/internal/Package.js"
import { command } from "../support/command.js"
import { binary, childrenOf, connectTo, descriptors, eventually, isAlive, launch } from "../support/servers.js"
import { temporary, upgradable, versionBeside } from "../support/upgrades.js"

const env = { PATH: process.env["PATH"] ?? "" }

/** Prints numbered lines until a file exists; then exits with 7. */
const counting = (stop: string) => [
  "sh",
  "-c",
  `i=0; while [ ! -e ${stop} ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 7`
]

/** Reads all lines of a counting process, and its exit. Fails if one is missing, twice or in disorder. */
const followed = (child: RemoteProcess) =>
  Effect.gen(function* () {
    let rest = ""
    let next = 0
    yield* Stream.runForEach(child.output, (chunk) =>
      Effect.sync(() => {
        const lines = (rest + chunk.toString()).split(/\r?\n/)
        rest = lines.pop() ?? ""
        for (const line of lines) assert.strictEqual(line, String(next++))
      })
    )
    return { lines: next, exit: yield* child.closed }
  })

const touch = (path: string) => command(["run", "--", "touch", path])

describe("an upgrade", () => {
  it.live("goes on with sessions, processes, output, input and tokens, in the same process", () =>
    Effect.gen(function* () {
      const token = randomBytes(16).toString("hex")
      const server = yield* upgradable({
        env: {
          EXEC_SERVER_WS_AUTH: "capability-token",
          EXEC_SERVER_WS_TOKEN_SHA256: createHash("sha256").update(token).digest("hex")
        }
      })
      const folder = yield* temporary
      const entry = yield* versionBeside("9.9.9")
      const client = yield* ExecClient.connectWebSocket({ url: server.url, token })
      const stop = join(folder, "stop")
      const start = (argv: ReadonlyArray<string>, more: object = {}) =>
        client.start({ argv, cwd: folder, env, ...more })
      const pipe = yield* Effect.fork(followed(yield* start(counting(stop))))
      const terminal = yield* Effect.fork(followed(yield* start(counting(stop), { tty: true })))
      const hashing = yield* start(["sh", "-c", `until [ -e read ]; do sleep 0.1; done; exec sha256sum`], {
        pipeStdin: true
      })
      const gone = yield* start(["sh", "-c", "sleep 0.7; kill -USR1 $$"])
      const input = randomBytes(3_000_000)
      const fed = yield* Effect.fork(hashing.communicate({ input }))
      const watcher = new WebSocket(server.url, { headers: { authorization: `Bearer ${token}` } })
      const closed = new Promise((resolve) => {
        watcher.on("close", (code, reason) => resolve([code, reason.toString()]))
      })
      yield* Effect.promise(() => new Promise((resolve) => watcher.once("open", resolve)))
      yield* client.call("fs/open", { handleId: "h", path: { bytes: Buffer.from("/etc/passwd"), form: "plain" } })

      const first = yield* server.upgrade(entry)
      const { gapMs, awayMs, ...rest } = first
      assert.isAbove(gapMs, 0)
      assert.isAtLeast(awayMs, gapMs)
      assert.deepStrictEqual(rest, {
        pid: server.pid,
        from: version,
        to: "9.9.9",
        dryRun: false,
        carried: { sessions: 1, processes: first.carried.processes, listeners: 1 },
        ended: [
          { what: "connections", count: 2 },
          { what: "open files", count: 1 }
        ]
      })
      assert.isAtLeast(first.carried.processes, 3)
      assert.deepStrictEqual(yield* Effect.promise(() => closed), [
        1012,
        "the server is being replaced by another version; connect again"
      ])
      assert.strictEqual((yield* gone.closed).signal, "SIGUSR1")
      const second = yield* server.upgrade(binary)
      assert.deepStrictEqual([second.from, second.to, second.pid], ["9.9.9", version, server.pid])

      yield* touch(join(folder, "read"))
      yield* touch(stop)
      for (const fiber of [pipe, terminal]) {
        const { lines, exit } = yield* Fiber.join(fiber)
        assert.isAbove(lines, 20)
        assert.strictEqual(exit.exitCode, 7)
      }
      const { stdout } = yield* Fiber.join(fed)
      assert.strictEqual(bytesOf(stdout).toString().split(" ", 1)[0], createHash("sha256").update(input).digest("hex"))

      const seen = yield* start(["sh", "-c", "env; cat /proc/$PPID/environ"], { env: { ...env, HERE: "1" } })
      const { stdout: variables } = yield* seen.communicate()
      assert.include(bytesOf(variables).toString(), "HERE=1")
      assert.notInclude(bytesOf(variables).toString(), createHash("sha256").update(token).digest("hex"))
      const { stdout: own } = yield* (yield* start(["env"])).communicate()
      assert.notInclude(bytesOf(own).toString(), "HANDOVER")
      const anonymous = new WebSocket(server.url)
      const status = yield* Effect.promise(
        () =>
          new Promise((resolve) => {
            anonymous.on("error", () => {})
            anonymous.on("unexpected-response", (_, response) => resolve(response.statusCode))
          })
      )
      assert.strictEqual(status, 401)
    }).pipe(Effect.scoped)
  )

  const failures: ReadonlyArray<readonly [how: string, start: string, reason: RegExp]> = [
    ["throws", `throw new TypeError("not today")`, /TypeError: not today/],
    ["has a syntax error", `await import("data:text/javascript,}{")`, /SyntaxError/],
    ["rejects a promise", `Promise.reject(new Error("no")); setInterval(() => {}, 1000)`, /Error: no/],
    ["exits", "process.exit(3)", /exited with status 3/],
    ["has nothing to do", "", /exited with status 0/],
    ["aborts", "process.abort()", /signal 06/],
    ["crashes", `process.kill(process.pid, "SIGSEGV"); setInterval(() => {}, 1000)`, /signal 11/],
    ["hangs", "for (;;);", /not taken over in time/],
    ["waits for ever", "setInterval(() => {}, 1000)", /not taken over in time/],
    ["is removed in time", `await import("./missing.js")`, /Cannot find module|ERR_MODULE_NOT_FOUND/],
    ["cannot listen", `process.argv.push("--listen", "nowhere"); await import("./real.js")`, /exited with status 2/]
  ]
  it.live(
    "to a version that fails is undone, whatever the failure",
    () =>
      Effect.gen(function* () {
        const server = yield* upgradable()
        const folder = yield* temporary
        const client = yield* ExecClient.connectWebSocket({ url: server.url })
        const stop = join(folder, "stop")
        const child = yield* client.start({ argv: counting(stop), cwd: folder, env, tty: true })
        const following = yield* Effect.fork(followed(child))
        for (const [how, start, reason] of failures) {
          const entry = yield* versionBeside("9.9.9", start)
          const { code, stderr } = yield* server.ask(
            entry,
            "--timeout",
            reason.source.includes("in time") ? "1s" : "20s"
          )
          assert.strictEqual(code, 1, how)
          assert.match(
            stderr,
            /^Error: version 9\.9\.9 has failed \(.*\), and version \S+ serves again, after .* ms\n$/,
            how
          )
          assert.match(stderr, reason, how)
          assert.strictEqual((yield* client.start({ argv: ["true"], cwd: folder, env })).pid === null, false)
        }
        assert.isTrue(isAlive(child.pid))
        yield* server.upgrade(yield* versionBeside("9.9.9"))
        yield* touch(stop)
        const { lines, exit } = yield* Fiber.join(following)
        assert.isAbove(lines, 100)
        assert.strictEqual(exit.exitCode, 7)
      }).pipe(Effect.scoped),
    180_000
  )

  /** Replaces what a version calls by something that fails. */
  const lateFailures: ReadonlyArray<readonly [how: string, start: string, reason: RegExp]> = [
    [
      "it cannot listen",
      `const { Server } = await import("node:net")
       Server.prototype.listen = function () {
         process.nextTick(() => this.emit("error", new Error("no listening today")))
         return this
       }`,
      /no listening today/
    ],
    [
      "its last step throws",
      `globalThis[Symbol.for("exec-server/handover")].disarm = () => { throw new Error("not at last") }`,
      /not at last/
    ]
  ]
  it.live.each(lateFailures)(
    "to a version that fails once it has restored everything ends no process: %s",
    ([, ...failure]) =>
      Effect.gen(function* () {
        const [start, reason] = failure
        const path = join(yield* temporary, "s")
        const server = yield* upgradable({ listen: `unix://${path}` })
        const client = yield* ExecClient.connectWebSocket({ url: `unix://${path}` })
        const options = { cwd: "/", env }
        const terminal = yield* client.start({ argv: ["sh", "-c", "read line; exit 7"], ...options, tty: true })
        const pipe = yield* client.start({ argv: ["sh", "-c", "cat; exit 8"], ...options, pipeStdin: true })
        const { code, stderr } = yield* server.ask(yield* versionBeside("9.9.9", `${start}\nawait import("./real.js")`))
        assert.strictEqual(code, 1)
        assert.match(stderr, /^Error: version 9\.9\.9 has failed \(.*\), and version \S+ serves again/)
        assert.match(stderr, reason)
        yield* terminal.write("\n")
        assert.strictEqual((yield* terminal.closed).exitCode, 7)
        const { exit, stdout } = yield* pipe.communicate({ input: "still here" })
        assert.deepStrictEqual([bytesOf(stdout).toString(), exit.exitCode], ["still here", 8])
      }).pipe(Effect.scoped)
  )

  it.live("that is refused leaves everything as it was", () =>
    Effect.gen(function* () {
      const server = yield* upgradable()
      const folder = yield* temporary
      const client = yield* connectTo(server.url)
      yield* client.handshake()
      const before = descriptors(server.pid)
      const refusals: ReadonlyArray<readonly [flags: ReadonlyArray<string>, reason: RegExp, code: number]> = [
        [["--command", join(folder, "nothing")], /--command .*nothing: No such file/, 2],
        [["--command", "/bin/ls"], /\/bin\/ls cannot take over/, 1],
        [["--command", yield* versionBeside("9.9.9", "")], /^\{/, 0],
        [["--command", binary, "--node", "/bin/false"], /cannot take over: it exits with status 1/, 1],
        [["--command", binary, "--node", join(folder, "node")], /node cannot be executed: No such file/, 1]
      ]
      for (const [flags, reason, code] of refusals) {
        const dry = code === 0 ? ["--dry-run"] : []
        const asked = yield* command(["upgrade", "--control-socket", server.socket, "--json", ...dry, ...flags])
        assert.match(asked.stdout + asked.stderr.replace(/^Error: /, ""), reason)
        assert.strictEqual(asked.code, code)
      }
      const broken = yield* versionBeside("9.9.9")
      rmSync(join(broken, "../../src/spawn/native/build/Release/posix.node"))
      assert.match((yield* server.ask(broken)).stderr, /cannot take over: .*posix\.node cannot be loaded/)
      yield* eventually("the descriptors are closed", () => descriptors(server.pid) === before)
      assert.deepInclude(yield* client.call("environment/status", {}), { result: { status: "ready" } })
    }).pipe(Effect.scoped)
  )

  it.live("of a server whose own files have gone is refused: it could not come back", () =>
    Effect.gen(function* () {
      const server = yield* upgradable()
      const old = yield* versionBeside("9.9.8")
      yield* server.upgrade(old)
      rmSync(join(old, "..", "bin.js"))
      assert.match(
        (yield* server.ask(binary)).stderr,
        /the files of the running version 9\.9\.8 in .* are gone or changed/
      )
    }).pipe(Effect.scoped)
  )

  const hanging = `process.stderr.write("it hangs\\n")`
  it.live.each([
    ["starts", `${hanging}; for (;;);`, "SIGTERM"],
    [
      "has restored everything",
      `const { Server } = await import("node:net")
       Server.prototype.listen = function () { ${hanging}; return this }
       await import("./real.js")`,
      0
    ]
  ] as const)("ends with everything else when the server is ended while the new version %s", ([, start, status]) =>
    Effect.gen(function* () {
      const server = yield* upgradable()
      const folder = yield* temporary
      const client = yield* connectTo(server.url)
      yield* client.handshake()
      yield* client.call("process/start", { processId: "p", argv: ["sleep", "1000"], cwd: folder, env, tty: false })
      const [child = -1] = childrenOf(server.pid)
      const entry = yield* versionBeside("9.9.9", start)
      const asked = yield* Effect.fork(server.ask(entry, "--timeout", "60s"))
      yield* eventually("the new version hangs", () => server.stderr().includes("it hangs"))
      process.kill(server.pid, "SIGTERM")
      assert.strictEqual(yield* server.exit, status)
      yield* eventually("the process has ended", () => !isAlive(child))
      assert.match((yield* Fiber.join(asked)).stderr, /the server has ended/)
    }).pipe(Effect.scoped)
  )

  it.live(
    "leaves no descriptor behind, however often",
    () =>
      Effect.gen(function* () {
        const server = yield* upgradable()
        const client = yield* ExecClient.connectWebSocket({ url: server.url })
        const child = yield* client.start({ argv: ["cat"], cwd: "/", env, tty: true })
        const entry = yield* versionBeside("9.9.9")
        let before = 0
        for (const index of Array(8).keys()) {
          yield* server.upgrade(index % 2 === 0 ? entry : binary)
          yield* child.write(`${index}\n`)
          if (index === 1) before = descriptors(server.pid)
        }
        yield* eventually("they are as many as before", () => descriptors(server.pid) <= before)
      }).pipe(Effect.scoped),
    180_000
  )

  it.live("takes over a unix socket, and its file is removed in the end", () =>
    Effect.gen(function* () {
      const path = join(yield* temporary, "s")
      const server = yield* upgradable({ listen: `unix://${path}` })
      yield* server.upgrade(yield* versionBeside("9.9.9"))
      const client = yield* ExecClient.connectWebSocket({ url: `unix://${path}` })
      const { exit } = yield* (yield* client.start({ argv: ["true"], cwd: "/", env })).communicate()
      assert.strictEqual(exit.exitCode, 0)
      process.kill(server.pid, "SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      for (const left of [path, server.socket]) assert.throws(() => readFileSync(left), /ENOENT/)
    }).pipe(Effect.scoped)
  )
})

describe("the control socket", () => {
  it.live("is not there for a server on stdio", () =>
    Effect.gen(function* () {
      const socket = join(yield* temporary, "control.sock")
      yield* launch({ env: { EXEC_SERVER_CONTROL_SOCKET: socket } })
      const { code, stderr } = yield* command(["upgrade", "--control-socket", socket])
      assert.strictEqual(code, 1)
      assert.match(stderr, /No such file or directory.*a server on stdio has none/)
    }).pipe(Effect.scoped)
  )

  it.live("refuses what the server itself has started", () =>
    Effect.gen(function* () {
      const server = yield* upgradable()
      const client = yield* ExecClient.connectWebSocket({ url: server.url })
      const child = yield* client.start({
        argv: [process.execPath, binary, "upgrade", "--control-socket", server.socket],
        cwd: "/",
        env
      })
      const { exit, stderr } = yield* child.communicate()
      assert.strictEqual(exit.exitCode, 1)
      assert.match(bytesOf(stderr).toString(), /a process that this server has started cannot replace it/)
    }).pipe(Effect.scoped)
  )
})
