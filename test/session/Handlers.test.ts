/** What requests lead to besides their answers. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { AuditLog, type Entry } from "../../src/session/AuditLog.js"
import { stubborn } from "../../src/testing/FakeSpawner.js"
import { settle } from "../support/fake.js"
import { served } from "../support/peer.js"
import { registryLayer } from "../support/sessions.js"
import { startParams } from "../support/TestClient.js"

const inputBytes = () => {
  const found = Metric.unsafeSnapshot().find(
    ({ metricKey: { name, tags } }) => name === "exec_server_process_input_bytes_total" && tags.length === 0
  )
  return Number((found?.metricState as unknown as { readonly count: number } | undefined)?.count ?? 0)
}

/** A connection whose handshake is done, of which this is recorded. */
const audited = (failure?: string) => {
  const log: Array<Entry> = []
  const write = (_: unknown, entry: Entry) => {
    log.push(entry)
    return failure
  }
  const layer = registryLayer({ onSignal: stubborn }).pipe(Layer.provide(Layer.succeed(AuditLog, { write })))
  const connection = Effect.tap(served({}), ({ peer }) => {
    peer.handshake()
    log.length = 0
  })
  return { log, layer, connection }
}

describe("the audit log", () => {
  it.scoped("has what is done to a process before it is done, and nothing of its arguments", () => {
    const { log, layer, connection } = audited()
    return Effect.gen(function* () {
      const { peer, fake } = yield* connection
      const { pid } = peer.reply(
        peer.post("process/start", startParams("p", ["tool", "secret"], { timeoutMs: 5000 }))
      ).result
      yield* settle
      peer.post("process/signal", { processId: "p", signal: "SIGUSR1" })
      peer.post("process/terminate", { processId: "p", mode: { type: "graceful", timeoutMs: 1000 } })
      yield* settle
      assert.deepStrictEqual((yield* fake.child(0)).signals, [
        ["SIGUSR1", "group"],
        ["SIGTERM", "tree"]
      ])
      assert.deepStrictEqual(log, [
        { event: "process.start", processId: "p", program: "tool", tty: false, timeoutMs: 5000 },
        { event: "process.started", processId: "p", pid },
        { event: "process.signal", processId: "p", signal: "SIGUSR1", target: "group" },
        { event: "process.terminate", processId: "p", mode: "graceful" }
      ])
    }).pipe(Effect.provide(layer))
  })

  it.scoped("has a start that is refused, by the kind of its failure", () => {
    const { log, layer, connection } = audited()
    return Effect.gen(function* () {
      const { peer, fake } = yield* connection
      fake.failNext("secret")
      const id = peer.post("process/start", startParams("p", ["tool"], { tty: true }))
      yield* settle
      assert.strictEqual(peer.reply(id).error.message, "secret")
      assert.deepStrictEqual(log, [
        { event: "process.start", processId: "p", program: "tool", tty: true, timeoutMs: undefined },
        { event: "process.refused", processId: "p", failure: "SpawnFailed" }
      ])
    }).pipe(Effect.provide(layer))
  })

  it.scoped("that cannot be written lets nothing start", () => {
    const { layer, connection } = audited("ENOSPC")
    return Effect.gen(function* () {
      const { peer, fake } = yield* connection
      const { error } = peer.reply(peer.post("process/start", startParams("p", ["tool"])))
      assert.include(error.message, "the audit log cannot be written (ENOSPC)")
      assert.lengthOf(fake.requests, 0)
    }).pipe(Effect.provide(layer))
  })
})

describe("input", () => {
  it.scoped("is counted where it is accepted, and only there", () =>
    Effect.gen(function* () {
      const { peer } = yield* served({})
      peer.handshake()
      peer.post("process/start", startParams("p", ["tool"], { pipeStdin: true }))
      peer.post("process/start", startParams("deaf", ["tool"]))
      yield* settle
      const write = (processId: string) => {
        const id = peer.post("process/write", { processId, chunk: Buffer.from("four").toString("base64") })
        return peer.reply(id).result.status
      }
      assert.strictEqual(write("p"), "accepted")
      const before = inputBytes()
      assert.strictEqual(write("p"), "accepted")
      assert.strictEqual(inputBytes() - before, 4)
      assert.strictEqual(write("deaf"), "stdinClosed")
      assert.strictEqual(write("nobody"), "unknownProcess")
      assert.strictEqual(inputBytes() - before, 4)
    }).pipe(Effect.provide(registryLayer()))
  )

  const restart = { policy: "always", maxRestarts: 3, withinMs: 10_000, backoffMs: 1000, maxBackoffMs: 1000 }
  for (const [dialect, params] of [
    ["v0", {}],
    ["session", { resumeSessionId: null }]
  ] as const) {
    it.scoped(`between two children is refused as such, ${dialect} dialect`, () =>
      Effect.gen(function* () {
        const { peer, fake } = yield* served({})
        peer.handshake(params)
        peer.post("process/start", startParams("p", ["tool"], { pipeStdin: true, restart }))
        yield* settle
        const child = yield* fake.child(0)
        child.finish(1)
        const written = peer.reply(peer.post("process/write", { processId: "p", chunk: "" }))
        if (dialect === "session") assert.deepStrictEqual(written.result, { accepted: false, status: "starting" })
        else assert.strictEqual(written.error.message, "process id p is starting")
        assert.deepStrictEqual(peer.reply(peer.post("process/closeStdin", { processId: "p" })).result, {})
      }).pipe(Effect.provide(registryLayer()))
    )
  }
})
