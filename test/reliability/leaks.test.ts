/** After a lot of work everything is back where it was. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { childrenOf, descriptors, eventually, residentMb, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

/** Runs so many short processes, a quarter of each kind, half of them failing to start; 16 in flight. */
const churn = (
  client: Effect.Effect.Success<Effect.Effect.Success<ReturnType<typeof webSocketServer>>["connect"]>,
  from: number,
  count: number
) =>
  Effect.forEach(
    Array.from({ length: count }, (_, i) => from + i),
    (i) =>
      Effect.gen(function* () {
        const tty = i % 4 < 2
        const argv = i % 2 === 0 ? ["/bin/true"] : ["/no/such/program"]
        const { error } = yield* client.call("process/start", startParams(`p${i}`, argv, { tty }))
        if (i % 2 === 0) yield* client.closed(`p${i}`)
        else assert.strictEqual(error.code, -32603)
      }),
    { concurrency: 16, discard: true }
  )

describe("leaks", () => {
  it.scopedLive(
    "3,000 short processes, half of them failing to start, leave no descriptor, zombie or memory behind",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args: ["--closed-process-retention-ms", "50"] })
        const client = yield* server.connect
        yield* client.handshake()
        // What is allocated once is no leak.
        yield* churn(client, 0, 500)
        yield* Effect.sleep("200 millis")
        const before = { fds: descriptors(server.pid), memory: residentMb(server.pid) }
        yield* churn(client, 500, 3000)
        client.messages.length = 0
        yield* eventually("no child is left, not even a zombie", () => childrenOf(server.pid).length === 0)
        yield* eventually("descriptors are back", () => descriptors(server.pid) <= before.fds)
        yield* Effect.repeat(client.ask("process/list"), {
          until: ({ processes }) => processes.length === 0,
          schedule: Schedule.spaced("20 millis")
        }).pipe(Effect.timeout("20 seconds"))
        assert.isBelow(residentMb(server.pid) - before.memory, 60)
      }),
    120_000
  )

  it.scopedLive("40 connections cut while their processes produce output leave nothing behind", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const observer = yield* server.connect
      yield* observer.handshake({})
      // The first process brings what is opened once.
      yield* observer.start("first", ["true"], { tty: true })
      yield* observer.closed("first")
      const before = descriptors(server.pid)
      yield* Effect.scoped(
        Effect.forEach(
          Array.from({ length: 40 }),
          (_, i) =>
            Effect.gen(function* () {
              const client = yield* server.connect
              client.discard = true
              yield* client.handshake({})
              yield* client.start("p", ["yes"], { tty: i % 2 === 0 })
            }),
          { concurrency: 8 }
        )
      )
      yield* eventually("no child is left", () => childrenOf(server.pid).length === 0)
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
      assert.deepStrictEqual(yield* observer.ask("environment/status"), { status: "ready" })
    })
  )

  it.scopedLive(
    "out of descriptors: starts fail with the system's text, nothing leaks, and all is well afterwards",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ under: 'ulimit -n 60; exec "$@"' })
        const client = yield* server.connect
        yield* client.handshake()
        // The first start opens what the server keeps: the guard, the cgroups, the table of mounts.
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
            assert.strictEqual(error.code, -32603)
            assert.match(error.message, /Too many open files|cannot open a terminal/)
          }
        }
        assert.isAbove(refusals, 0)
        assert.isAbove(running.length, 5)
        for (const processId of running) client.post("process/terminate", { processId })
        for (const processId of running) yield* client.closed(processId)
        yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
        assert.strictEqual(childrenOf(server.pid).length, 0)
        yield* client.start("again", ["true"], { tty: true })
        assert.strictEqual((yield* client.closed("again")).exitCode, 0)
      })
  )
})
