/**
 * Cgroups of real processes, where this machine lets the tests make some. Limits need controllers as well, which few
 * machines give to a test: `unshare`d ones do not, a virtual machine does.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { locate, make } from "../../src/spawn/Cgroups.js"
import { eventually, guardOf, isAlive, runningWith, webSocketServer } from "../support/servers.js"

const located = locate("auto")
const parent = Either.getOrElse(located, () => "")

/** A number that no other test sleeps for. */
const markOf = (pid: number) => String(86_800_000 + (pid % 100_000))

/** A daemon: it has cut its chain of parents, left the session, and holds none of the process's output. */
const daemon = (mark: string) =>
  `(setsid sh -c 'trap "" HUP TERM; sleep ${mark} & ' >/dev/null 2>&1 </dev/null &); sleep 0.3; echo up;`

/** The daemons; the shells have the mark in their scripts. */
const daemonsOf = (mark: string) => runningWith(`sleep\x00${mark}`)

/** The folders of a server's children. */
const foldersOf = (pid: number) =>
  readdirSync(parent)
    .filter((name) => name.startsWith(`exec-server.${pid}.`))
    .flatMap((name) => readdirSync(join(parent, name)).filter((child) => /^\d+$/.test(child)))

const baseOf = (pid: number) => readdirSync(parent).filter((name) => name.startsWith(`exec-server.${pid}.`))

describe.runIf(Either.isRight(located))("cgroups", () => {
  for (const tty of [false, true]) {
    const stream = tty ? "pty" : "stdout"
    it.scopedLive(`${tty ? "terminal" : "pipe"}: the kill of a process ends the daemons that it has left`, () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer()
        const client = yield* server.connect
        yield* client.handshake()
        const mark = markOf(server.pid)
        yield* client.sh("p", `${daemon(mark)} cat /proc/self/cgroup; sleep 1000; :`, { tty })
        yield* client.sees("p", `0::`, stream)
        assert.match(
          client.output("p", stream).toString(),
          new RegExp(`^0::.*/exec-server\\.${server.pid}\\.1/1\\r?$`, "m")
        )
        assert.strictEqual(daemonsOf(mark).length, 1)
        yield* client.ask("process/terminate", { processId: "p" })
        assert.deepInclude(yield* client.closed("p"), { exitCode: 137, signal: "SIGKILL" })
        yield* eventually("the daemon is gone", () => daemonsOf(mark).length === 0)
        yield* eventually("its cgroup is gone", () => foldersOf(server.pid).length === 0)
      })
    )
  }

  it.scopedLive("a signal to the tree reaches the daemons", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const mark = markOf(server.pid)
      yield* client.sh("p", `(setsid sh -c 'sleep ${mark} & ' >/dev/null 2>&1 </dev/null &); sleep 0.3; echo up; cat`, {
        pipeStdin: true
      })
      yield* client.sees("p", "up")
      assert.strictEqual(daemonsOf(mark).length, 1)
      yield* client.ask("process/signal", { processId: "p", signal: "SIGUSR1", target: "tree" })
      assert.deepInclude(yield* client.closed("p"), { signal: "SIGUSR1" })
      yield* eventually("the daemon is gone", () => daemonsOf(mark).length === 0)
    })
  )

  it.scopedLive("a cgroup is removed when it is empty: at the exit, or when the last daemon has ended", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const mark = markOf(server.pid)
      yield* client.sh("p", "exit 0")
      yield* client.closed("p")
      assert.lengthOf(foldersOf(server.pid), 0)
      yield* client.sh("q", `${daemon(mark)} exit 0`)
      yield* client.closed("q")
      assert.lengthOf(foldersOf(server.pid), 1)
      for (const pid of daemonsOf(mark)) process.kill(pid, "SIGKILL")
      yield* eventually("its cgroup is gone", () => foldersOf(server.pid).length === 0)
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      yield* eventually("that of the server is gone", () => baseOf(server.pid).length === 0)
    })
  )

  it.scopedLive("killed with SIGKILL, the server takes its daemons with it", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const mark = markOf(server.pid)
      for (let i = 0; i < 5; i++) yield* client.sh(`p${i}`, `${daemon(mark)} sleep 1000`, { tty: i % 2 === 0 })
      yield* eventually("the daemons run", () => daemonsOf(mark).length === 5)
      server.child.kill("SIGKILL")
      yield* server.exit
      yield* eventually("nothing survives", () => daemonsOf(mark).length === 0)
      yield* eventually("the cgroups are gone", () => baseOf(server.pid).length === 0)
    })
  )

  it.scopedLive("killed together with its guard, what it leaves is ended by the next server that starts", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const mark = markOf(server.pid)
      yield* client.sh("p", `${daemon(mark)} sleep 1000`)
      yield* client.sees("p", "up")
      const guard = guardOf(server.pid) ?? 0
      // Stopped first, so that neither acts on the death of the other.
      for (const pid of [server.pid, guard]) process.kill(pid, "SIGSTOP")
      for (const pid of [guard, server.pid]) process.kill(pid, "SIGKILL")
      yield* server.exit
      yield* eventually("the guard is gone", () => !isAlive(guard))
      assert.isAbove(daemonsOf(mark).length, 0)
      const running = yield* webSocketServer()
      yield* eventually("nothing survives", () => daemonsOf(mark).length === 0)
      yield* eventually("the cgroups are gone", () => baseOf(server.pid).length === 0)
      assert.isTrue(isAlive(running.pid))
    })
  )

  it.scopedLive("those of a running server are left alone", () =>
    Effect.gen(function* () {
      const first = yield* webSocketServer()
      const client = yield* first.connect
      yield* client.handshake()
      const { pid } = yield* client.start("p", ["sleep", "1000"])
      const second = yield* webSocketServer()
      const other = yield* second.connect
      yield* other.handshake()
      yield* other.sh("q", "exit 0")
      yield* other.closed("q")
      yield* Effect.sleep("1500 millis")
      assert.isTrue(isAlive(pid))
      assert.lengthOf(foldersOf(first.pid), 1)
    })
  )

  it.scopedLive("none, with --cgroup none", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--cgroup", "none"] })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("p", ["sleep", "1000"])
      assert.lengthOf(baseOf(server.pid), 0)
    })
  )
})

/** Whether the limits of trees can be enforced here. Asked of the folder itself: it changes nothing. */
const hasControllers =
  parent !== "" &&
  ["memory", "cpu", "pids"].every((name) =>
    readFileSync(join(parent, "cgroup.controllers"), "utf8").split(/\s/).includes(name)
  ) &&
  !existsSync(join(parent, "cgroup.events"))

describe.runIf(hasControllers)("limits of a tree", () => {
  const served = Effect.gen(function* () {
    const server = yield* webSocketServer()
    const client = yield* server.connect
    client.capabilities = { exitUsage: true }
    yield* client.handshake()
    return client
  })
  const hungry = "const all = []; for (;;) all.push(Buffer.alloc(1e7, 1))"

  it.scopedLive("memory: the kernel kills all of the tree, and that is told", () =>
    Effect.gen(function* () {
      const client = yield* served
      const limits = { memoryBytes: 100e6 }
      yield* client.sh("p", `${process.execPath} -e '${hungry}'; echo survived`, { limits })
      const exited = yield* client.closed("p")
      assert.deepInclude(exited, { signal: "SIGKILL", oomKilled: true })
      assert.isAbove(exited.usage.oomKills, 0)
      assert.isAtMost(exited.usage.peakMemoryBytes, 100e6)
      assert.strictEqual(client.output("p").toString(), "")
      yield* client.sh("q", "exit 0", { limits })
      assert.notProperty(yield* client.closed("q"), "oomKilled")
    })
  )

  it.scopedLive("processors: a quarter of one takes longer than its CPU time", () =>
    Effect.gen(function* () {
      const client = yield* served
      const script = "const end = process.cpuUsage().user + 3e5; while (process.cpuUsage().user < end);"
      const startedAt = performance.now()
      yield* client.start("p", [process.execPath, "-e", script], { limits: { cpus: 0.25 } })
      const { usage } = yield* client.closed("p")
      assert.isAbove(performance.now() - startedAt, 2 * (usage.userCpuMs + usage.systemCpuMs))
    })
  )

  it.scopedLive("processes: one more cannot be started", () =>
    Effect.gen(function* () {
      const client = yield* served
      yield* client.sh("p", "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait; echo all", { limits: { pids: 3 } })
      assert.notStrictEqual((yield* client.closed("p")).exitCode, 0)
      assert.notInclude(client.output("p").toString(), "all")
    })
  )
})

describe("why there are no cgroups", () => {
  it("a folder that is none is named", () => {
    assert.deepStrictEqual(locate("/tmp"), Either.left("/tmp is not a folder of cgroup v2"))
    assert.deepStrictEqual(locate("none"), Either.left("this server makes none: its setting cgroup is none"))
  })

  it("a start without such limits has none, and goes on", () => {
    const cgroups = make("/tmp", () => assert.fail("made"))
    assert.isUndefined(cgroups.make({ openFiles: 9 }))
    assert.isUndefined(cgroups.refusal({ openFiles: 9 }))
    assert.strictEqual(
      cgroups.refusal({ cpus: 1 }),
      "`limits.cpus` needs a cgroup, and /tmp is not a folder of cgroup v2"
    )
  })
})
