/** `--contain namespace`: nothing outlives a process, wherever it went. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  eventually,
  guardOf,
  hasBubblewrap,
  isAlive,
  launch,
  runningWith,
  webSocketServer
} from "../support/servers.js"

/** A number that no other test sleeps for. */
const markOf = (pid: number) => String(86_500_000 + (pid % 100_000))

/** A daemon: it has cut its chain of parents before anybody could see it, and holds none of the process's output. */
const daemon = (mark: string) => `(setsid sh -c 'sleep ${mark} & ' >/dev/null 2>&1 </dev/null &); sleep 0.3; echo up;`

const contained = { args: ["--contain", "namespace"] }

describe("--contain namespace", () => {
  it.scopedLive("is refused where bubblewrap is not installed, in one line that says what to do", () =>
    Effect.gen(function* () {
      const folder = mkdtempSync(join(tmpdir(), "no-bwrap-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
      const server = yield* launch({ args: ["--contain", "namespace"], env: { PATH: folder } })
      assert.strictEqual(yield* server.exit, 1)
      assert.match(
        server.stderr(),
        /^Error: cannot contain processes: bubblewrap \(bwrap\) is not installed; install it.*\n$/
      )
    })
  )

  if (!hasBubblewrap) return

  for (const tty of [false, true]) {
    it.scopedLive(`${tty ? "terminal" : "pipe"}: a daemon ends with the process that started it`, () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer(contained)
        const client = yield* server.connect
        const mark = markOf(server.pid)
        yield* client.handshake()
        yield* client.sh("leaves", `${daemon(mark)} exit 3`, { tty })
        assert.deepInclude(yield* client.closed("leaves"), { exitCode: 3, signal: null })
        yield* eventually("the daemon is gone", () => runningWith(mark).length === 0)

        yield* client.sh("stays", `${daemon(mark)} sleep 1000`, { tty })
        yield* client.sees("stays", "up", tty ? "pty" : "stdout")
        assert.isAbove(runningWith(mark).length, 0)
        yield* client.ask("process/terminate", { processId: "stays" })
        assert.deepInclude(yield* client.closed("stays"), { exitCode: 137, signal: "SIGKILL" })
        yield* eventually("the daemon is gone", () => runningWith(mark).length === 0)
      })
    )
  }

  it.scopedLive("a graceful termination reaches daemons too, and the one that ignores it is killed", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer(contained)
      const client = yield* server.connect
      yield* client.handshake()
      const script =
        "trap 'echo asked; exit 4' TERM; (setsid sh -c 'trap \"echo told\" TERM; sleep 1000; sleep 1000' &); echo up; while :; do sleep 0.05; done"
      yield* client.sh("p", script)
      yield* client.sees("p", "up")
      yield* client.ask("process/terminate", { processId: "p", mode: { type: "graceful", timeoutMs: 20_000 } })
      assert.deepInclude(yield* client.closed("p"), { exitCode: 4, signal: null })
      assert.include(client.output("p").toString(), "asked")
    })
  )

  it.scopedLive("killed with SIGKILL, the server takes the daemons with it", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer(contained)
      const client = yield* server.connect
      const mark = markOf(server.pid)
      yield* client.handshake()
      for (let i = 0; i < 10; i++) {
        yield* client.sh(`p${i}`, `${daemon(mark)} trap '' TERM HUP; sleep 1000; sleep 1000`, { tty: i % 2 === 0 })
        yield* client.sees(`p${i}`, "up", i % 2 === 0 ? "pty" : "stdout")
      }
      assert.isAtLeast(runningWith(mark).length, 10)
      server.child.kill("SIGKILL")
      yield* server.exit
      yield* eventually("nothing survives", () => runningWith(mark).length === 0, 2000)
    })
  )

  it.scopedLive("killed together with its guard, the server takes the daemons with it", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: [...contained.args, "--cgroup", "none"] })
      const client = yield* server.connect
      const mark = markOf(server.pid)
      yield* client.handshake()
      for (let i = 0; i < 6; i++) {
        yield* client.sh(`p${i}`, `${daemon(mark)} trap '' TERM HUP; sleep 1000; sleep 1000`, { tty: i % 2 === 0 })
        yield* client.sees(`p${i}`, "up", i % 2 === 0 ? "pty" : "stdout")
      }
      const guard = guardOf(server.pid) ?? 0
      // Stopped first, so that neither acts on the death of the other.
      for (const pid of [server.pid, guard]) process.kill(pid, "SIGSTOP")
      for (const pid of [guard, server.pid]) process.kill(pid, "SIGKILL")
      yield* server.exit
      yield* eventually("nothing survives", () => runningWith(mark).length === 0)
    })
  )

  it.scopedLive("requests pipelined with the start take effect in order", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer(contained)
      const client = yield* server.connect
      yield* client.handshake()
      client.post("process/start", {
        processId: "p",
        argv: ["cat"],
        cwd: "/",
        env: { PATH: "/usr/bin:/bin" },
        tty: false,
        pipeStdin: true
      })
      for (const text of ["a", "b", "c"]) {
        client.post("process/write", { processId: "p", chunk: Buffer.from(text).toString("base64") })
      }
      client.post("process/closeStdin", { processId: "p" })
      assert.deepInclude(yield* client.closed("p"), { exitCode: 0 })
      assert.strictEqual(client.output("p").toString(), "abc")
      const { pid } = yield* client.start("q", ["sleep", "1000"])
      assert.isTrue(isAlive(pid))
      client.post("process/start", {
        processId: "r",
        argv: ["sleep", "1001"],
        cwd: "/",
        env: { PATH: "/bin" },
        tty: false
      })
      client.post("process/terminate", { processId: "r" })
      client.post("process/terminate", { processId: "q" })
      client.carrier.close()
      yield* client.ended()
      yield* eventually("what was asked is done", () => !isAlive(pid) && runningWith("sleep\x001001").length === 0)
    })
  )
})
