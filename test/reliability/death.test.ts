/** When the server is killed and can run no handler, nothing it started survives: the guard alone sees to that. */
import { execFile } from "node:child_process"
import { readdirSync, readlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually, guardOf, isAlive, runningWith, webSocketServer } from "../support/servers.js"

/** Whether a descriptor of a process is the master of a terminal. */
const isMaster = (pid: number, fd: string) => {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`).endsWith("ptmx")
  } catch {
    return false
  }
}

/** Without cgroups, which would find everything. */
const guardAlone = { args: ["--cgroup", "none"] }

describe("the server's own death", () => {
  it.scopedLive("killed with SIGKILL while 60 trees run, nothing of them survives", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer(guardAlone)
      const client = yield* server.connect
      yield* client.handshake()
      // A number no other test sleeps for, so that the whole process table can be searched for it.
      const mark = String(86_400_000 + (server.pid % 100_000))
      const scripts = [
        `sleep ${mark}; :`,
        `sleep ${mark} & sleep ${mark} & echo up; wait`,
        `trap '' TERM HUP INT; setsid sleep ${mark} & setsid sh -c 'trap "" TERM HUP; sleep ${mark}; :' & sleep ${mark}; :`,
        `(sleep ${mark} & ) ; exit 0`
      ]
      for (let i = 0; i < 60; i++) yield* client.sh(`p${i}`, scripts[i % 4] ?? "", { tty: i % 8 < 4 })
      yield* eventually("the trees have grown", () => runningWith(mark).length >= 60 + 15)
      server.child.kill("SIGKILL")
      assert.strictEqual(yield* server.exit, "SIGKILL")
      // The fourth script's child has no parent left: it is found by its group.
      yield* eventually("nothing survives", () => runningWith(mark).length === 0, 2000)
    })
  )

  it.scopedLive("killed with SIGKILL in the middle of a burst of starts, it leaves none of them behind", () =>
    Effect.gen(function* () {
      for (let round = 0; round < 6; round++) {
        const server = yield* webSocketServer(guardAlone)
        const client = yield* server.connect
        yield* client.handshake()
        const mark = String(86_400_000 + (server.pid % 100_000))
        for (let i = 0; i < 200; i++) {
          const params = { processId: `p${i}`, argv: ["/bin/sleep", mark], cwd: "file:///", env: {}, tty: i % 4 === 0 }
          client.post("process/start", params)
        }
        const started = 10 + 25 * round
        yield* eventually("some have been started", () => runningWith(mark).length >= started)
        server.child.kill("SIGKILL")
        assert.strictEqual(yield* server.exit, "SIGKILL")
        yield* eventually("nothing survives", () => runningWith(mark).length === 0, 2000)
      }
    })
  )

  it("killed with SIGKILL, it leaves no descendant of a terminal that ignores the hang-up", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ["scratch/survivors.mjs", "--runs", "1"], {
      cwd: fileURLToPath(new URL("../..", import.meta.url))
    })
    assert.include(stdout, "nothing of 138 processes survived in 1 of 1 runs")
  })

  it.scopedLive("a terminal that the server has closed is hung up, though the guard held it", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const mark = String(86_400_000 + (server.pid % 100_000))
      // The leader ends; what it leaves behind holds the terminal until that is given up.
      yield* client.sh("p", `trap '' HUP; sleep ${mark} & exec sleep 1000`, { tty: true })
      yield* eventually("the guard runs", () => guardOf(server.pid) !== undefined)
      const guard = guardOf(server.pid) ?? 0
      const held = () => readdirSync(`/proc/${guard}/fd`).filter((fd) => isMaster(guard, fd)).length
      yield* eventually("the guard holds the terminal", () => held() === 1)
      yield* client.call("process/terminate", { processId: "p" })
      yield* eventually("it does not hold it any longer", () => held() === 0)
    })
  )

  it.scopedLive("a guard that fails is reported and replaced", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const { pid } = yield* client.start("p", ["sleep", "1000"])
      yield* eventually("the guard runs", () => guardOf(server.pid) !== undefined)
      const guard = guardOf(server.pid)
      process.kill(guard ?? 0, "SIGKILL")
      yield* eventually("another guard has taken over", () => ![undefined, guard].includes(guardOf(server.pid)))
      assert.include(server.stderr(), "guard")
      yield* Effect.sleep("100 millis")
      server.child.kill("SIGKILL")
      yield* server.exit
      yield* eventually("the process is gone", () => !isAlive(pid))
    })
  )

  it.scopedLive("an orderly end takes the guard with it", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("p", ["sleep", "1000"])
      yield* eventually("the guard runs", () => guardOf(server.pid) !== undefined)
      const guard = guardOf(server.pid) ?? 0
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      yield* eventually("the guard is gone", () => !isAlive(guard))
    })
  )
})
