/** The audit log of real servers: who started, signalled and ended what. */
import { chmodSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { folder } from "../support/exposed.js"
import { eventually, launch, stdioClient, webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

/** All entries so far. */
const entries = (path: string): ReadonlyArray<Json> =>
  readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line))

/** What they say beside the time and who it was. */
const said = (path: string, sessionId: string, event = "") =>
  entries(path)
    .filter((entry) => entry.sessionId === sessionId && entry.event.startsWith(event))
    .map(({ time: _time, peer: _peer, subject: _subject, sessionId: _sessionId, ...what }) => what)

const program = "/bin/sh"

describe("--audit-log", () => {
  it.scopedLive("has starts, signals, terminations and exits, each before the client hears of it", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      const server = yield* webSocketServer({ args: ["--audit-log", path] })
      const client = yield* server.connect
      const { sessionId } = yield* client.handshake()
      const last = () => said(path, sessionId).at(-1)
      assert.deepStrictEqual(said(path, sessionId), [{ event: "session.opened" }])

      const { pid } = yield* client.sh("p", "echo ready; exec sleep 1000")
      assert.deepStrictEqual(said(path, sessionId).slice(1), [
        { event: "process.start", processId: "p", program, tty: false },
        { event: "process.started", processId: "p", pid }
      ])
      yield* client.sees("p", "ready")
      yield* client.ask("process/signal", { processId: "p", signal: "SIGCONT", target: "leader" })
      assert.deepStrictEqual(last(), {
        event: "process.signal",
        processId: "p",
        signal: "SIGCONT",
        target: "leader"
      })
      yield* client.ask("process/terminate", { processId: "p", mode: { type: "graceful", timeoutMs: 20_000 } })
      const terminated = { event: "process.terminate", processId: "p", mode: "graceful" }
      assert.deepInclude(said(path, sessionId), terminated)
      yield* client.exited("p")
      const exited = { event: "process.exited", processId: "p", exitCode: 143, signal: "SIGTERM", timedOut: false }
      assert.deepStrictEqual(last(), exited)

      yield* client.sh("t", "sleep 1000; true", { timeoutMs: 100 })
      yield* client.exited("t")
      assert.deepStrictEqual(
        said(path, sessionId, "process")
          .slice(-3)
          .map(({ pid: _pid, ...what }) => what),
        [
          { event: "process.start", processId: "t", program, tty: false, timeoutMs: 100 },
          { event: "process.started", processId: "t" },
          { event: "process.exited", processId: "t", exitCode: 137, signal: "SIGKILL", timedOut: true }
        ]
      )

      const { error } = yield* client.call("process/start", {
        processId: "missing",
        argv: ["/no/such/program"],
        cwd: "/tmp",
        env: {},
        tty: true
      })
      assert.strictEqual(error.code, -32603)
      assert.deepStrictEqual(said(path, sessionId).slice(-2), [
        { event: "process.start", processId: "missing", program: "/no/such/program", tty: true },
        { event: "process.refused", processId: "missing", failure: "SpawnFailed" }
      ])

      for (const { time, peer } of entries(path)) {
        assert.strictEqual(new Date(time).toISOString(), time)
        assert.match(peer, /^127\.0\.0\.1:\d+$/)
      }
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
    })
  )

  it.scopedLive("has what becomes of sessions, and of their processes then", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      const server = yield* webSocketServer({ args: ["--audit-log", path, "--detached-session-ttl-ms", "300"] })
      const leave = (params: object) =>
        Effect.gen(function* () {
          const client = yield* server.connect
          const { sessionId } = yield* client.handshake(params)
          yield* client.sh("p", "echo ready; exec sleep 1000")
          yield* client.sees("p", "ready")
          client.carrier.close()
          yield* client.ended()
          yield* eventually("the exit is recorded", () => said(path, sessionId, "process.exited").length === 1)
          return said(path, sessionId).slice(3)
        })
      const killed = { event: "process.exited", processId: "p", exitCode: 137, signal: "SIGKILL", timedOut: false }
      assert.deepStrictEqual(yield* leave({}), [{ event: "session.ended", reason: "disconnected" }, killed])
      assert.deepStrictEqual(yield* leave({ resumeSessionId: null }), [
        { event: "session.detached" },
        { event: "session.ended", reason: "expired" },
        killed
      ])
    })
  )

  it.scopedLive("names the peer that resumed a session; is appended to by the next server; has the shutdown", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      writeFileSync(path, '{"event":"before"}\n')
      chmodSync(path, 0o644)
      const server = yield* webSocketServer({ args: ["--audit-log", path] })
      const first = yield* server.connect
      const { sessionId } = yield* first.handshake()
      first.carrier.close()
      yield* first.ended()
      yield* eventually("it is detached", () => said(path, sessionId, "session.detached").length === 1)
      const second = yield* server.connect
      yield* second.resume(sessionId)
      yield* second.sh("p", "echo ready; exec sleep 1000")
      yield* second.sees("p", "ready")
      server.child.kill("SIGTERM")
      yield* server.exit
      const all = entries(path)
      assert.deepStrictEqual(
        all.map(({ event }) => event),
        [
          "before",
          "session.opened",
          "session.detached",
          "session.resumed",
          "process.start",
          "process.started",
          "session.ended",
          "process.exited"
        ]
      )
      assert.strictEqual(all[6].reason, "shutdown")
      assert.strictEqual(all[7].signal, "SIGTERM")
      assert.strictEqual(all[2].peer, all[1].peer)
      assert.notStrictEqual(all[3].peer, all[1].peer)
      assert.strictEqual(all[7].peer, all[3].peer)
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
    })
  )

  it.scopedLive("nothing of arguments, environments and input is in it", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      const { client } = yield* stdioClient({ args: ["--audit-log", path] })
      yield* client.handshake({})
      const env = { PATH: "/usr/bin:/bin", TOKEN: "hunter2" }
      yield* client.sh("p", "read line; echo hunter2 $line $TOKEN", { env, pipeStdin: true })
      yield* client.write("p", "hunter2\n")
      yield* client.closed("p")
      assert.include(client.output("p").toString(), "hunter2 hunter2 hunter2")
      assert.notInclude(readFileSync(path, "utf8"), "hunter2")
      assert.strictEqual(entries(path).at(-1).peer, "stdio")
    })
  )

  it.scopedLive("where it cannot be written, nothing is started, but what runs can be ended", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      // Files may grow to two blocks here; the signal that says so is ignored, and writing fails.
      const server = yield* webSocketServer({
        args: ["--audit-log", path],
        under: 'trap "" XFSZ; ulimit -f 2; exec "$@"'
      })
      const client = yield* server.connect
      yield* client.handshake()
      let started = 0
      let refusal: Json
      while (refusal === undefined && started < 100) {
        const { error } = yield* client.call("process/start", {
          processId: `p${started}`,
          argv: ["sleep", "1000"],
          cwd: "/tmp",
          env: { PATH: "/usr/bin:/bin" },
          tty: false
        })
        if (error === undefined) started++
        else refusal = error
      }
      assert.strictEqual(refusal?.code, -32600)
      assert.match(refusal.message, /^the audit log cannot be written \(File too large.*\): no process is started/)
      const { processes } = yield* client.ask("process/list")
      assert.strictEqual(processes.length, started)
      assert.isAbove(started, 0)
      for (const { processId } of processes) {
        assert.deepStrictEqual(yield* client.ask("process/terminate", { processId }), { running: true })
        yield* client.closed(processId)
      }
      assert.match(server.stderr(), /the audit log .* cannot be written: File too large/)
      assert.lengthOf(server.stderr().match(/cannot be written/g) ?? [], 1)
    })
  )

  it.scopedLive("what cannot be opened, or is no file, fails the start", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "folder")
      mkdirSync(path)
      for (const [given, why] of [
        ["/no/such/folder/audit.log", "No such file or directory"],
        [path, "Is a directory"],
        ["/dev/null", "it is not a regular file"]
      ] as const) {
        const server = yield* launch({ args: ["--audit-log", given] })
        assert.strictEqual(yield* server.exit, 1)
        assert.include(server.stderr(), `Error: cannot open the audit log ${given}: ${why}`)
      }
    })
  )

  it.scopedLive("goes on in a new file once it is renamed, with ids of any length that they can have", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      const server = yield* webSocketServer({ args: ["--audit-log", path] })
      const client = yield* server.connect
      const { sessionId } = yield* client.handshake()
      renameSync(path, `${path}.1`)
      yield* client.sh("p".repeat(1024), "exit 0")
      yield* client.exited("p".repeat(1024))
      assert.deepStrictEqual(said(`${path}.1`, sessionId), [{ event: "session.opened" }])
      const [start] = said(path, sessionId)
      assert.deepInclude(start, { event: "process.start", processId: "p".repeat(1024) })
      assert.strictEqual(said(path, sessionId).at(-1)?.event, "process.exited")
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
      assert.isBelow(statSync(path).size, 10_000)
    })
  )

  it.scopedLive("begins anew at the limit, keeps what was before, and has no control characters", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "audit.log")
      const server = yield* webSocketServer({ args: ["--audit-log", path, "--audit-log-max-bytes", "2000"] })
      const client = yield* server.connect
      yield* client.handshake()
      for (let i = 0; i < 20; i++) {
        const processId = `p${i}\u009b31m`
        yield* client.sh(processId, "exit 0")
        yield* client.closed(processId)
      }
      for (const file of [path, `${path}.1`]) {
        const text = readFileSync(file, "utf8")
        assert.isAtMost(text.length, 2000)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        assert.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
        for (const line of text.trimEnd().split("\n")) assert.isString(JSON.parse(line).event)
        assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      }
      assert.include(readFileSync(path, "utf8"), '"processId":"p19\\u009b31m"')
    })
  )
})
