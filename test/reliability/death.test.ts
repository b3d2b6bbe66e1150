/** When the server is killed and can run no handler, nothing it started survives. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually, guardOf, isAlive, runningWith, webSocketServer } from "../support/servers.js"

describe("the server's own death", () => {
  it.scopedLive("killed with SIGKILL while 60 trees run, nothing of them survives", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
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

  it.scopedLive("a guard that fails is reported and replaced", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const { pid } = yield* client.start("p", ["sleep", "1000"])
      const guard = guardOf(server.pid)
      assert.isDefined(guard)
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
      const guard = guardOf(server.pid) ?? 0
      assert.isTrue(isAlive(guard))
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      yield* eventually("the guard is gone", () => !isAlive(guard))
    })
  )
})
