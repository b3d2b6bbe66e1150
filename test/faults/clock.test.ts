/** The clock of the machine is set: no wait, limit or window of the server may depend on what time it is. */
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { nowhere } from "../support/command.js"
import { folder, host } from "../support/fleet.js"
import { childrenOf, connectTo, eventually, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

const preload = new URL("clock.mjs", import.meta.url)

const hourMs = 3_600_000

const env = { NODE_OPTIONS: `--import=${fileURLToPath(preload)}` }

/** Sets a server's clock forward or back by an hour, and waits until it is. */
const setter = (pid: number, client: TestClient) => {
  let offset = 0
  return (hours: 1 | -1) =>
    Effect.gen(function* () {
      offset += hours
      process.kill(pid, hours === 1 ? "SIGUSR2" : "SIGPIPE")
      for (let attempt = 0; ; attempt++) {
        assert.isBelow(attempt, 100, "the clock is set")
        const processId = `${offset}-${attempt}`
        yield* client.start(processId, ["true"])
        yield* client.closed(processId)
        const { processes } = yield* client.ask("process/list")
        const { startedAtMs } = processes[processes.length - 1]
        if (Math.abs(startedAtMs - Date.now() - offset * hourMs) < 600_000) return
      }
    })
}

const shifted = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const server = yield* webSocketServer({ args, env })
    const client = yield* server.connect
    yield* client.handshake()
    return { server, client, set: setter(server.pid, client) }
  })

describe("the clock jumps", () => {
  for (const direction of [1, -1] as const) {
    const how = direction === 1 ? "forward" : "back"

    it.scopedLive(`${how} by an hour: waits, time limits and sessions take as long as they should`, () =>
      Effect.gen(function* () {
        const { server, client, set } = yield* shifted(["--detached-session-ttl-ms", "1500"])
        const other = yield* connectTo(server.url)
        const { sessionId } = yield* other.handshake({ resumeSessionId: null })
        yield* other.start("kept", ["sleep", "1000"])
        yield* client.start("idle", ["cat"], { pipeStdin: true })
        yield* client.start("limited", ["sleep", "1000"], { timeoutMs: 1500 })
        const startedAt = performance.now()
        const poll = client.post("process/read", { processId: "idle", waitMs: 1500 })
        const wait = client.post("process/wait", { processId: "idle", waitMs: 1500 })
        other.carrier.close()
        yield* other.ended()
        yield* set(direction)
        const again = yield* connectTo(server.url)
        again.knows("kept")
        assert.strictEqual((yield* again.resume(sessionId)).sessionId, sessionId)
        assert.deepStrictEqual((yield* client.reply(poll)).result.chunks, [])
        assert.isFalse((yield* client.reply(wait)).result.exited)
        assert.strictEqual((yield* client.closed("limited")).timedOut, true)
        assert.isAbove(performance.now() - startedAt, 1400)
        yield* again.ask("process/terminate", { processId: "kept" })
        yield* client.ask("process/terminate", { processId: "idle" })
        yield* eventually("no child is left", () => childrenOf(server.pid).length === 0)
      })
    )
  }

  it.scopedLive("forward and back by an hour, at a host or its gateway: no lease lapses, and no session ends", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const door = yield* webSocketServer({
        args: ["--database", `file:${path}/db`, "--lease", "5s"],
        env: { ...nowhere, ...env },
        command: "gateway"
      })
      const { pid } = yield* host(door, "h1", { env })
      const client = yield* door.connect
      yield* client.handshake()
      yield* client.start("kept", ["sleep", "1000"])
      // The gateway's lease must have held for a lease: otherwise no host can be lost anyway.
      yield* client.start("lease", ["sleep", "6"])
      yield* client.closed("lease")
      const set = setter(pid, client)
      for (const direction of [1, -1] as const) {
        yield* set(direction)
        process.kill(door.pid, direction === 1 ? "SIGUSR2" : "SIGPIPE")
        yield* client.start(`while ${direction}`, ["sleep", "2"])
        yield* client.closed(`while ${direction}`)
      }
      assert.isUndefined(client.ending)
      yield* client.ask("process/terminate", { processId: "kept" })
      yield* client.closed("kept")
    })
  )

  it.scopedLive("back by an hour: a process that has long run well is restarted as often as its policy says", () =>
    Effect.gen(function* () {
      const { client, set } = yield* shifted()
      const restart = { policy: "always", maxRestarts: 1, withinMs: 500, backoffMs: 0, maxBackoffMs: 0 }
      yield* client.start("p", ["sleep", "1000"], { restart })
      const kill = client.ask("process/signal", { processId: "p", signal: "SIGKILL" })
      const restarted = () => client.messages.filter(({ method }) => method === "process/restarted").length
      yield* kill
      yield* client.until("the first restart", () => (restarted() === 1 ? true : undefined))
      yield* set(-1)
      // The first restart is out of the window by then.
      yield* client.call("process/wait", { processId: "p", waitMs: 700 })
      yield* kill
      yield* client.until("the second restart", () => (restarted() === 2 ? true : undefined))
      yield* client.ask("process/terminate", { processId: "p" })
      yield* client.closed("p")
    })
  )

  it.scopedLive("forward by an hour: a process that fails at once is not restarted more often", () =>
    Effect.gen(function* () {
      const { client, set } = yield* shifted()
      const restart = { policy: "always", maxRestarts: 1, withinMs: 600_000, backoffMs: 0, maxBackoffMs: 0 }
      yield* client.start("p", ["sleep", "1000"], { restart })
      const kill = client.ask("process/signal", { processId: "p", signal: "SIGKILL" })
      yield* kill
      yield* client.notified("process/restarted")
      yield* set(1)
      yield* kill
      assert.strictEqual((yield* client.closed("p")).signal, "SIGKILL")
    })
  )
})
