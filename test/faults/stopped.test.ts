/** Somebody is stopped (SIGSTOP) for a while: a client with output under way, or the server itself. */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { childrenOf, eventually, residentMb, webSocketServer } from "../support/servers.js"

const pause = (ms: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, ms)))

/** A client in a process of its own that prints how many bytes of output it has received, now and then. */
const separateClient = (url: string) =>
  Effect.acquireRelease(
    Effect.async<{ readonly child: ChildProcess; readonly pid: number; readonly received: () => number }>((resume) => {
      const script = fileURLToPath(new URL("reader.mjs", import.meta.url))
      const child = spawn(process.execPath, [script, url], { stdio: ["ignore", "pipe", "inherit"] })
      let received = 0
      const client = { pid: child.pid ?? -1, received: () => received, child }
      createInterface({ input: child.stdout }).on("line", (line) => {
        received = Number(line)
        resume(Effect.succeed(client))
      })
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe("stopped by SIGSTOP", () => {
  it.scopedLive("a client with unread output slows its own process down, nobody else, and goes on where it was", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const observer = yield* server.connect
      yield* observer.handshake()
      const reader = yield* separateClient(server.url)
      yield* eventually("output flows", () => reader.received() > 1_000_000)
      process.kill(reader.pid, "SIGSTOP")
      // What it has not taken by now stays in the kernel and in bounded buffers.
      yield* pause(1000)
      const memory = residentMb(server.pid)
      const latencies: Array<number> = []
      for (let i = 0; i < 200; i++) {
        const startedAt = performance.now()
        yield* observer.ask("environment/status")
        latencies.push(performance.now() - startedAt)
      }
      assert.isBelow(latencies.sort((a, b) => a - b)[197] ?? 0, 2000)
      assert.isBelow(residentMb(server.pid) - memory, 30)
      const before = reader.received()
      process.kill(reader.pid, "SIGCONT")
      yield* eventually("output flows again", () => reader.received() > before + 20_000_000, 30_000)
      process.kill(reader.pid, "SIGSTOP")
      process.kill(reader.pid, "SIGKILL")
      yield* eventually("its process has ended with it", () => childrenOf(server.pid).length === 0)
    })
  )

  it.scopedLive(
    "a server picks everything up again: waits, time limits, output and its clients, none of whom it loses",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({
          args: ["--ping-interval-ms", "100", "--detached-session-ttl-ms", "300"]
        })
        const client = yield* server.connect
        yield* client.handshake()
        const other = yield* server.connect
        yield* other.handshake({ resumeSessionId: null })
        yield* other.start("orphan", ["sleep", "1000"])
        yield* client.start("limited", ["sleep", "1000"], { timeoutMs: 300 })
        yield* client.sh("busy", "i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.05; done")
        yield* client.start("idle", ["cat"], { pipeStdin: true })
        const poll = client.post("process/read", { processId: "idle", waitMs: 400 })
        process.kill(server.pid, "SIGSTOP")
        // Meanwhile one client goes, and the other one asks.
        other.carrier.close()
        const asked = client.post("environment/status")
        yield* pause(1500)
        process.kill(server.pid, "SIGCONT")
        assert.deepStrictEqual((yield* client.reply(asked)).result, { status: "ready" })
        assert.deepStrictEqual((yield* client.reply(poll)).result.chunks, [])
        assert.strictEqual((yield* client.closed("limited")).timedOut, true)
        assert.strictEqual((yield* client.closed("busy")).exitCode, 0)
        const expected = Array.from({ length: 30 }, (_, i) => `${i}\n`).join("")
        assert.strictEqual(client.output("busy", "stdout").toString(), expected)
        yield* client.ask("process/terminate", { processId: "idle" })
        yield* client.closed("idle")
        yield* eventually("the session of the one that went has expired", () => childrenOf(server.pid).length === 0)
        assert.isUndefined(client.ending)
      })
  )
})
