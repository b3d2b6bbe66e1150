/** Viewers of processes: what they are sent, in which order, and that they hold nothing up. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { serverLayer, settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { attach } from "../support/viewer.js"

const kb = 1024

/** A client with a process. */
const started = (more: object = {}) =>
  Effect.gen(function* () {
    const client = yield* memoryClient
    const { sessionId } = yield* client.handshake()
    yield* client.start("p", ["program"], more)
    yield* settle
    return { client, sessionId, child: yield* (yield* FakeSpawner).child(0) }
  })

describe("an attachment", () => {
  it.scoped("is sent nothing before it acknowledges, and then everything in order, up to the end", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("stdout", "one")
      const viewer = yield* attach(client, "p")
      assert.deepInclude(viewer.answer, {
        role: "operator",
        seq: 0,
        size: null,
        screen: null,
        title: null,
        truncated: false,
        exited: false,
        closed: false
      })
      assert.deepStrictEqual(viewer.answer.viewers, [
        { attachmentId: viewer.id, name: "test", role: "operator", size: null, drives: false }
      ])
      child.emit("stderr", "two")
      yield* settle
      assert.deepStrictEqual(viewer.all, [])
      viewer.ack(0)
      yield* viewer.sees("onetwo")
      child.emit("stdout", "three")
      child.finish(3)
      yield* viewer.notified("event", ({ type }) => type === "closed")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "output 2", "output 3", "event exited 4", "event closed 5"])
      assert.deepInclude(viewer.of("event")[0], { exitCode: 3, signal: null })
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* viewer.notified("ended")).reason, "released")
      assert.strictEqual(viewer.all.at(-1)?.[0], "ended")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("begins with the next output, or after any event", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      for (const text of ["a", "b", "c"]) child.emit("stdout", text)
      const live = yield* attach(client, "p", { from: { type: "live" } })
      const second = yield* attach(client, "p", { from: { type: "seq", afterSeq: 1 } })
      const later = yield* attach(client, "p", { from: { type: "seq", afterSeq: 1000 } })
      assert.deepStrictEqual([live.answer.seq, second.answer.seq, later.answer.seq], [3, 1, 3])
      for (const viewer of [live, second, later]) viewer.ack(0)
      child.emit("stdout", "d")
      yield* live.sees("d")
      yield* second.sees("d")
      yield* later.sees("d")
      assert.deepStrictEqual([live.output, second.output, later.output], ["d", "bcd", "d"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("of a process that has ended gets what is retained, and its end", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      child.emit("stdout", "all")
      child.finish(4)
      yield* client.closed("p")
      const viewer = yield* attach(client, "p")
      assert.deepInclude(viewer.answer, { exited: true, exitCode: 4, closed: true })
      viewer.ack(0)
      yield* viewer.notified("event", ({ type }) => type === "closed")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "event exited 2", "event closed 3"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("gets no more than its window, and the rest as it acknowledges; the process is never held up", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      const viewer = yield* attach(client, "p", { window: 1 })
      viewer.ack(0)
      for (let i = 0; i < 8; i++) child.emit("stdout", Buffer.alloc(8 * kb, 0x61 + i))
      yield* settle
      yield* settle
      assert.isFalse(child.paused)
      // 16 KiB is the smallest window.
      assert.deepStrictEqual(viewer.kinds, ["output 1", "output 2"])
      viewer.ack(1)
      yield* settle
      yield* settle
      assert.deepStrictEqual(viewer.kinds, ["output 1", "output 2", "output 3"])
      viewer.ack(3)
      yield* viewer.notified("output", ({ seq }) => seq === 5)
      viewer.ack(8)
      yield* viewer.notified("output", ({ seq }) => seq === 7)
      viewer.ack(8)
      yield* viewer.notified("output", ({ seq }) => seq === 8)
      assert.deepStrictEqual(
        viewer.of("output").map(({ seq }) => seq),
        [1, 2, 3, 4, 5, 6, 7, 8]
      )
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("that falls behind what is retained skips it, and is told how much", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      const viewer = yield* attach(client, "p", { window: 16 * kb })
      viewer.ack(0)
      child.emit("stdout", Buffer.alloc(16 * kb))
      yield* viewer.notified("output", ({ seq }) => seq === 1)
      for (let i = 0; i < 20; i++) child.emit("stdout", Buffer.alloc(10 * kb))
      yield* settle
      viewer.ack(1)
      const { seq, screen, size, skippedBytes } = yield* viewer.notified("screen")
      assert.deepStrictEqual(
        { seq, screen, size, skippedBytes },
        {
          seq: 15,
          screen: null,
          size: null,
          skippedBytes: 14 * 10 * kb
        }
      )
      yield* viewer.notified("output", (params) => params.seq === 16)
      assert.deepStrictEqual(viewer.kinds, ["output 1", "screen 15", "output 16", "output 17"])
      assert.isFalse(child.paused)
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 64 * kb })))
  )

  it.scoped("of output that keeps its beginning and its end skips what lies between", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      for (let i = 0; i < 100; i++) child.emit("stdout", `${String(i).padStart(9)}\n`)
      const viewer = yield* attach(client, "p")
      assert.isTrue(viewer.answer.truncated)
      viewer.ack(0)
      yield* viewer.sees("99\n")
      const { skippedBytes, seq } = viewer.of("screen")[0]
      assert.strictEqual(viewer.output.length + skippedBytes, 1000)
      assert.isTrue(viewer.output.startsWith("        0\n") && seq > 10 && seq < 100)
    }).pipe(Effect.provide(serverLayer({}, { retainedOutputBytesPerProcess: 300, retain: "head-tail" })))
  )

  it.scoped("is told of resizes where they happened", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started({ tty: true, size: { rows: 10, cols: 20 } })
      const resize = (rows: number, cols: number) => client.ask("process/resize", { processId: "p", rows, cols })
      child.emit("pty", "a")
      yield* resize(11, 21)
      yield* resize(11, 21)
      child.emit("pty", "b")
      yield* resize(12, 22)
      const viewer = yield* attach(client, "p")
      assert.deepStrictEqual(viewer.answer.size, { rows: 10, cols: 20 })
      viewer.ack(0)
      yield* viewer.notified("resized", ({ rows }) => rows === 12)
      child.emit("pty", "c")
      yield* viewer.sees("abc")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "resized 1", "output 2", "resized 2", "output 3"])
      const later = yield* attach(client, "p", { from: { type: "seq", afterSeq: 2 } })
      assert.deepStrictEqual(later.answer.size, { rows: 12, cols: 22 })
      later.ack(0)
      yield* later.sees("c")
      assert.deepStrictEqual(later.kinds, ["output 3"])
      // The client itself sees neither.
      const ofClient = client.messages.filter(({ method }) => method?.startsWith("process/"))
      assert.deepStrictEqual(
        ofClient.map(({ method, params }) => [method, params.seq]),
        [1, 2, 3].map((seq) => ["process/output", seq])
      )
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("that detaches is sent nothing more; its id is then unknown", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      const viewer = yield* attach(client, "p")
      const other = yield* attach(client, "p", { name: "other" })
      viewer.ack(0)
      other.ack(0)
      assert.deepStrictEqual(yield* client.ask("attachment/detach", { attachmentId: viewer.id }), {})
      assert.deepStrictEqual(viewer.kinds.at(-1), "ended")
      child.emit("stdout", "more")
      yield* other.sees("more")
      assert.strictEqual(viewer.kinds.at(-1), "ended")
      const { error } = yield* client.call("attachment/detach", { attachmentId: viewer.id })
      assert.deepStrictEqual(error, { code: -32004, message: `unknown attachment id ${viewer.id}` })
      viewer.ack(7)
      yield* client.ask("environment/status")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("sees who else watches", () =>
    Effect.gen(function* () {
      const { client } = yield* started()
      const first = yield* attach(client, "p", { name: "first" })
      first.ack(0)
      const other = yield* memoryClient
      yield* other.handshake()
      const second = yield* attach(client, "p", { name: "second", size: { rows: 3, cols: 4 } })
      const { viewers } = yield* first.notified("viewers")
      assert.deepStrictEqual(viewers, second.answer.viewers)
      assert.deepStrictEqual(
        viewers.map(({ name, size }: { readonly name: string; readonly size: unknown }) => [name, size]),
        [
          ["first", null],
          ["second", { rows: 3, cols: 4 }]
        ]
      )
      assert.strictEqual((yield* client.ask("process/list")).processes[0].viewers, 2)
      yield* client.ask("attachment/detach", { attachmentId: second.id })
      yield* first.notified("viewers", ({ viewers }) => viewers.length === 1)
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("ends with the session of the process, after its last events", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started()
      const viewer = yield* attach(client, "p")
      viewer.ack(0)
      yield* settle
      child.emit("stdout", "last words")
      const [{ session }] = (yield* client.ask("session/list")).sessions
      client.raw(JSON.stringify({ id: 99, method: "session/end", params: { session } }))
      yield* viewer.notified("ended", ({ reason }) => reason === "sessionEnded")
      assert.deepStrictEqual(viewer.kinds, ["output 1", "event exited 2", "event closed 3", "ended"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("counts towards limits", () =>
    Effect.gen(function* () {
      const { client } = yield* started()
      const viewers = []
      for (let i = 0; i < 32; i++) viewers.push(yield* attach(client, "p"))
      const asked = { processId: "p", from: { type: "live" }, window: 1 }
      const { error } = yield* client.call("process/attach", asked)
      assert.include(error.message, "the limit maxViewersPerProcess (32) is reached")
      yield* client.ask("attachment/detach", { attachmentId: viewers[0]?.id })
      yield* client.ask("process/attach", asked)
      for (let n = 1; n <= 7; n++) {
        yield* client.start(`p${n}`, ["program"])
        for (let i = 0; i < 32; i++) yield* attach(client, `p${n}`)
      }
      yield* client.start("last", ["program"])
      const full = yield* client.call("process/attach", { ...asked, processId: "last" })
      assert.include(full.error.message, "the limit attachments of one connection (256) is reached")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("that was never made cannot be acknowledged", () =>
    Effect.gen(function* () {
      const { client } = yield* started()
      client.raw('{"method":"attachment/ack","params":{"attachmentId":1,"seq":1}}')
      assert.deepStrictEqual(yield* client.ended(), {
        code: 1002,
        reason: "unexpected notification method: attachment/ack"
      })
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("of nothing is refused, and so is what makes no sense", () =>
    Effect.gen(function* () {
      const { client } = yield* started()
      const attempt = (more: object) =>
        Effect.map(
          client.call("process/attach", { processId: "p", from: { type: "live" }, window: 1, ...more }),
          ({ error }) => [error.code, error.message]
        )
      assert.deepStrictEqual(yield* attempt({ processId: "q" }), [-32600, "unknown process id q"])
      assert.deepStrictEqual(yield* attempt({ from: { type: "screen" } }), [
        -32600,
        "process p has no terminal; start it with `tty: true`"
      ])
      assert.strictEqual((yield* attempt({ from: { type: "seq" } }))[0], -32602)
      assert.strictEqual((yield* attempt({ session: "s-00000000" }))[0], -32003)
      client.raw('{"method":"attachment/ack","params":{"attachmentId":1}}')
      const { code, reason } = yield* client.ended()
      assert.deepStrictEqual([code, reason], [1002, "attachment/ack: missing field `seq`"])
    }).pipe(Effect.provide(serverLayer()))
  )
})
