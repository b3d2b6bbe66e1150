/** The real server as the first process of a container. */
import { spawnSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { allChildrenOf, childrenOf, eventually, isAlive, webSocketServer } from "../support/servers.js"

const unshare = ["unshare", ...(process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"]), "--pid", "--fork"]
const command = [...unshare, "--kill-child", "--mount-proc"]
const [program = "", ...flags] = command
const canBeFirst = spawnSync(program, [...flags, "true"]).status === 0

/** A server that is process 1, and its pid outside. */
const first = Effect.gen(function* () {
  const server = yield* webSocketServer({ under: `exec ${command.join(" ")} "$@"` })
  const [pid = -1] = allChildrenOf(server.pid)
  // `unshare` itself does not end by a signal.
  yield* Effect.addFinalizer(() => Effect.sync(() => isAlive(pid) && process.kill(pid, "SIGTERM")))
  return { server, pid }
})

describe.skipIf(!canBeFirst)("a server that is process 1", () => {
  it.scopedLive("reaps orphans, and tells the true status of each process", () =>
    Effect.gen(function* () {
      const { server, pid } = yield* first
      const client = yield* server.connect
      yield* client.handshake()
      const ids = Array.from({ length: 30 }, (_, index) => `p${index}`)
      for (const [index, id] of ids.entries()) {
        // Each leaves orphans that end before, while and after it does.
        const orphan = "(setsid sh -c 'sleep 0.0$1' sh $i >/dev/null 2>&1 &)"
        yield* client.sh(id, `for i in 0 1 2 3 4; do ${orphan}; done; sleep 0.02; exit ${100 + index}`)
      }
      for (const [index, id] of ids.entries()) {
        yield* client.closed(id)
        assert.strictEqual((yield* client.exited(id)).exitCode, 100 + index)
      }
      yield* client.sh("last", "kill -9 $$")
      yield* client.closed("last")
      assert.strictEqual((yield* client.exited("last")).exitCode, 137)
      yield* eventually("no orphan is left", () => childrenOf(pid).length === 0)
    })
  )

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.scopedLive(`ends by ${signal}`, () =>
      Effect.gen(function* () {
        const { server, pid } = yield* first
        process.kill(pid, signal)
        assert.strictEqual(yield* server.exit, 0)
      })
    )
  }
})
