/** What processes use, as asked for once and as sampled. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as ExecClient from "../../src/client/ExecClient.js"
import { connected, connectTo, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

/** Asks until the usage fits. */
const until = (client: TestClient, what: string, fits: (usage: Record<string, number>) => boolean) =>
  Effect.gen(function* () {
    for (;;) {
      const usage = yield* client.ask("process/usage", { processId: "p" })
      if (fits(usage)) return usage
      yield* Effect.sleep("50 millis")
    }
  }).pipe(
    Effect.timeout("20 seconds"),
    Effect.catchAll(() => Effect.dieMessage(`never came true: ${what}`))
  )

const burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"

describe("process/usage", () => {
  it.scopedLive("counts the whole tree: living processes, their memory, and their CPU time", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh("p", `sleep 1000 & setsid sleep 1000 & ${burn}; echo burnt; wait`)
      yield* client.sees("p", "burnt")
      const usage = yield* until(client, "three processes", ({ processes = 0, cpuMs = 0 }) => {
        return processes === 3 && cpuMs > 0
      })
      assert.isAbove(usage["rssBytes"] ?? 0, 100_000)
    })
  )

  it.scopedLive("counts a process that began since the last reading", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      for (const processId of ["p", "q", "r"]) {
        yield* client.sh(processId, "echo ready; exec cat", { pipeStdin: true })
        yield* client.sees(processId, "ready")
        const { processes } = yield* client.ask("process/usage", { processId })
        assert.strictEqual(processes, 1)
        yield* Effect.sleep("10 millis")
      }
    })
  )

  it.scopedLive("is in the list of processes while one of the tree is alive", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh("p", "sleep 1000 & echo ready; exec cat", { pipeStdin: true })
      yield* client.sh("ended", "true")
      yield* client.sees("p", "ready")
      yield* client.closed("ended")
      yield* until(client, "two processes", ({ processes }) => processes === 2)
      const { processes } = yield* client.ask("process/list", {})
      const [listed, ended] = processes
      assert.hasAllKeys(listed.usage, ["cpuMs", "rssBytes", "processes"])
      assert.strictEqual(listed.usage.processes, 2)
      assert.isAbove(listed.usage.rssBytes, 100_000)
      assert.isNull(ended.usage)
    })
  )

  it.scopedLive("counts children that were waited for, and never less than before", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh("p", `sh -c '${burn}'; echo burnt; exec cat`, { pipeStdin: true })
      yield* client.sees("p", "burnt")
      const { cpuMs = 0 } = yield* until(client, "CPU time of a child", ({ cpuMs = 0 }) => cpuMs > 0)
      yield* client.call("process/closeStdin", { processId: "p" })
      yield* client.closed("p")
      const after = yield* until(client, "its end is seen", ({ processes }) => processes === 0)
      assert.strictEqual(after["rssBytes"], 0)
      assert.isAtLeast(after["cpuMs"] ?? 0, cpuMs)
    })
  )

  it.scopedLive("counts what was written to storage", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh(
        "p",
        "f=$(mktemp -p .); dd if=/dev/zero of=$f bs=1M count=2 conv=fsync 2>/dev/null; rm $f; echo done; exec cat",
        {
          pipeStdin: true,
          cwd: process.cwd()
        }
      )
      yield* client.sees("p", "done")
      yield* until(client, "written bytes", ({ writeBytes = 0 }) => writeBytes >= 2 ** 21)
    })
  )

  it.scopedLive("adds up over restarts", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const restart = { policy: "always", maxRestarts: 1, withinMs: 60_000, backoffMs: 0, maxBackoffMs: 0 }
      yield* client.sh("p", `${burn}; echo burnt; read line`, { pipeStdin: true, restart })
      yield* client.sees("p", "burnt")
      const { cpuMs = 0 } = yield* until(client, "CPU time", ({ cpuMs = 0 }) => cpuMs > 0)
      yield* client.write("p", "\n")
      yield* client.sees("p", "burnt\nburnt")
      yield* until(client, "that of both", (usage) => (usage["cpuMs"] ?? 0) >= 1.5 * cpuMs)
    })
  )

  it.scopedLive("of an unknown process is an error", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const { error } = yield* client.call("process/usage", { processId: "p" })
      assert.deepStrictEqual(error, { code: -32600, message: "unknown process id p" })
    })
  )
})

describe("usage/watch", () => {
  const samples = (client: TestClient) => client.messages.filter(({ method }) => method === "usage/sample")

  it.scopedLive("samples living processes of the own session, until it is told to end", () =>
    Effect.gen(function* () {
      const { server, client } = yield* connected()
      const other = yield* connectTo(server.url)
      yield* other.handshake()
      yield* other.start("q", ["sleep", "1000"])
      yield* client.start("p", ["sleep", "1000"])
      yield* client.start("over", ["true"])
      yield* client.closed("over")
      assert.deepStrictEqual(yield* client.ask("usage/watch", { intervalMs: 500 }), {})
      const first = yield* client.notified("usage/sample", ({ processes }) => processes.length === 1)
      assert.strictEqual(first.processes[0].processId, "p")
      assert.strictEqual(first.processes[0].processes, 1)
      assert.isAbove(first.server.rssBytes, 10_000_000)
      yield* client.notified("usage/sample", ({ atMs }) => atMs >= first.atMs + 450)
      yield* client.ask("usage/watch", { intervalMs: null })
      const { length } = samples(client)
      yield* Effect.sleep("1200 millis")
      assert.lengthOf(samples(client), length)
      assert.lengthOf(samples(other), 0)
    })
  )

  it.scopedLive("sends no more samples to a client that asks again and again", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const sinceMs = performance.now()
      for (let i = 0; i < 100; i++) {
        yield* client.ask("usage/watch", { intervalMs: 500 })
        yield* Effect.sleep("5 millis")
      }
      assert.isAtMost(samples(client).length, 2 + (performance.now() - sinceMs) / 400)
    })
  )

  it.scopedLive("refuses an interval that is too short", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const { error } = yield* client.call("usage/watch", { intervalMs: 499 })
      assert.include(error.message, "499 is not an integer from 500 to 86400000")
    })
  )
})

describe("client.usage", () => {
  it.scopedLive("is a stream of samples, the shortest interval for all, that ends with the session", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const client = yield* ExecClient.connect({ url })
      yield* client.start({ processId: "p", argv: ["sleep", "1000"], cwd: "/tmp", env: { PATH: "/usr/bin:/bin" } })
      assert.deepInclude(yield* client.usage.process("p"), { processes: 1 })
      const slow = yield* Effect.fork(Stream.runCollect(Stream.take(client.usage.samples("1 hour"), 3)))
      const fast = yield* Stream.runCollect(Stream.take(client.usage.samples("500 millis"), 3))
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(fast).map(({ processes }) => processes.map(({ processId }) => processId)),
        [["p"], ["p"], ["p"]]
      )
      assert.lengthOf(Chunk.toReadonlyArray(yield* Fiber.join(slow)), 3)
      const again = yield* connectTo(url)
      yield* Effect.fork(Effect.delay(again.handshake({ resumeSessionId: client.sessionId, takeover: true }), 700))
      const samples = Stream.runCollect(Stream.take(client.usage.samples("500 millis"), 100))
      const failure = yield* Effect.flip(samples)
      assert.include(failure.message, "taken over")
    })
  )
})
