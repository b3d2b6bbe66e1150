/** The system starts no further process: EAGAIN for want of processes, ENOMEM for want of memory. */
import { spawnSync } from "node:child_process"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { childrenOf, descriptors, eventually, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

/** A user of nobody's, for whom alone the limit counts; root is never limited. */
const asNobody = "setpriv --reuid=54321 --clear-groups"
const canBeNobody = spawnSync("sh", ["-c", `prlimit --nproc=40 ${asNobody} ${process.execPath} -e 0`]).status === 0

describe("the system starts no further process", () => {
  it.scopedLive.runIf(canBeNobody)("starts fail with EAGAIN, nothing leaks, and all is well afterwards", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ under: `exec prlimit --nproc=40 ${asNobody} "$@"` })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("first", ["true"], { tty: true })
      yield* client.closed("first")
      const before = descriptors(server.pid)
      const running: Array<string> = []
      let refusals = 0
      for (let i = 0; i < 60; i++) {
        const more = { tty: i % 2 === 0, pipeStdin: true }
        const { error } = yield* client.call("process/start", startParams(`p${i}`, ["sleep", "1000"], more))
        if (error === undefined) running.push(`p${i}`)
        else {
          refusals++
          assert.deepStrictEqual(error, { code: -32603, message: "Resource temporarily unavailable (os error 11)" })
        }
      }
      assert.isAbove(refusals, 0)
      assert.isAbove(running.length, 0)
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      // Ending them takes no process either.
      for (const processId of running) client.post("process/terminate", { processId })
      for (const processId of running) assert.strictEqual((yield* client.closed(processId)).signal, "SIGKILL")
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
      assert.strictEqual(childrenOf(server.pid).length, 0)
      yield* client.start("again", ["true"], { tty: true })
      assert.strictEqual((yield* client.closed("again")).exitCode, 0)
    })
  )
})
