import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { ServerError, TransportClosed } from "../../src/client/ClientError.js"
import { EventLog } from "../../src/client/EventLog.js"
import * as EventReader from "../../src/client/EventReader.js"
import { type Numbered, ProcessEvent } from "../../src/client/ProcessEvent.js"
import type { ReadResult } from "../../src/protocol/ExecApi.js"
import { failureOf, settle } from "../support/fake.js"

const output = (seq: number, text: string | Buffer = `${seq} `): Numbered =>
  ProcessEvent.Output({ seq, stream: "stdout", chunk: Buffer.from(text) })
const exited = (seq: number, timedOut: boolean | undefined = false): Numbered =>
  ProcessEvent.Exited({ seq, exitCode: 7, signal: null, sandboxDenied: false, timedOut })
const closed = (seq: number): Numbered => ProcessEvent.Closed({ seq })

const readResult = (chunks: ReadonlyArray<number>, nextSeq: number, more: Partial<ReadResult> = {}): ReadResult => ({
  chunks: chunks.map((seq) => ({ seq, stream: "stdout", chunk: Buffer.from(`${seq} `) })),
  nextSeq,
  exited: false,
  exitCode: null,
  signal: null,
  closed: false,
  failure: null,
  sandboxDenied: false,
  truncated: false,
  droppedBytes: 0,
  ...more
})
const ended = { exited: true, exitCode: 7, closed: true }

/** What a fresh reader finds, in short: numbers of output, `x` for the exit, `c` for the close. */
const content = (log: EventLog): string => {
  const step = log.take({ seq: 0, bytes: 0 })
  return step._tag === "Events"
    ? step.events
        .map((event) => (event._tag === "Output" ? String(event.seq) : event._tag === "Exited" ? "x" : "c"))
        .join(" ")
    : step._tag
}

const unread: EventReader.Source["read"] = () => Effect.dieMessage("the server was asked")

const make = () => {
  const gaps: Array<number> = []
  const log: EventLog = new EventLog(() => gaps.push(log.last))
  return { log, gaps }
}

describe("EventLog", () => {
  it("publishes in order, whatever the order of arrival", () => {
    const events = [output(1), output(2), exited(3), output(4), closed(5)]
    const permutations = (list: ReadonlyArray<Numbered>): ReadonlyArray<ReadonlyArray<Numbered>> =>
      list.length <= 1
        ? [list]
        : list.flatMap((first) => permutations(list.filter((e) => e !== first)).map((rest) => [first, ...rest]))
    for (const order of permutations(events)) {
      const { log } = make()
      for (const event of order) log.accept(event)
      assert.strictEqual(content(log), "1 2 x 4 c")
      assert.isTrue(log.isClosed)
      assert.isFalse(log.hasGap)
      assert.strictEqual(log.exit?.exitCode, 7)
    }
  })

  it("takes nothing twice, and nothing after the close", () => {
    const { log } = make()
    for (const event of [
      output(1),
      output(1),
      output(3),
      output(3),
      output(2),
      output(1),
      exited(4),
      closed(5),
      output(6)
    ]) {
      log.accept(event)
    }
    assert.strictEqual(content(log), "1 2 3 x c")
  })

  it("holds a bounded number of early events, and of their bytes; what it dropped it can be given again", () => {
    const many = make()
    for (let seq = 5000; seq > 1; seq--) many.log.accept(output(seq))
    assert.deepStrictEqual(many.gaps, [0])
    many.log.accept(output(1))
    assert.strictEqual(many.log.last, 1)
    assert.isTrue(many.log.hasGap)
    const all = Array.from({ length: 4999 }, (_, i) => i + 2)
    assert.isTrue(many.log.recover(readResult(all, 5001)))
    assert.strictEqual(many.log.last, 5000)
    assert.isFalse(many.log.hasGap)

    const large = make()
    for (let seq = 2; seq <= 40; seq++) large.log.accept(output(seq, Buffer.alloc(65536)))
    large.log.accept(output(1))
    assert.strictEqual(large.log.last, 17)
  })

  it("rebuilds what was not heard from what the server has retained", () => {
    const running = make()
    running.log.accept(output(1))
    running.log.accept(output(5))
    assert.isTrue(running.log.recover(readResult([2, 3, 4, 5], 6)))
    assert.strictEqual(content(running.log), "1 2 3 4 5")

    const inTheMiddle = make()
    assert.isTrue(inTheMiddle.log.recover(readResult([1, 3], 5, ended)))
    assert.strictEqual(content(inTheMiddle.log), "1 x 3 c")
    assert.isUndefined(inTheMiddle.log.exit?.timedOut)

    const told = make()
    assert.isTrue(told.log.recover(readResult([1, 3], 5, { ...ended, timedOut: true, oomKilled: true })))
    assert.deepInclude(told.log.exit, { timedOut: true, oomKilled: true })

    const heardLive = make()
    heardLive.log.accept(exited(3))
    assert.isTrue(heardLive.log.recover(readResult([1, 2], 4, { exited: true, exitCode: 7 })))
    assert.strictEqual(content(heardLive.log), "1 2 x")

    const onlyTheClose = make()
    for (const event of [output(1), exited(2)]) onlyTheClose.log.accept(event)
    assert.isTrue(onlyTheClose.log.recover(readResult([], 4, ended)))
    assert.strictEqual(content(onlyTheClose.log), "1 x c")
  })

  it("says when something is gone that nobody retains", () => {
    const cases: ReadonlyArray<readonly [heard: ReadonlyArray<Numbered>, read: ReadResult]> = [
      [[], readResult([2, 3], 4)],
      [[output(1)], readResult([3], 4)],
      [[], readResult([], 2)],
      [[], readResult([2], 5, ended)],
      [[output(1), exited(2)], readResult([4], 5, { exited: true, exitCode: 7 })],
      [[], readResult([], 2 ** 60)]
    ]
    for (const [heard, read] of cases) {
      const { log } = make()
      for (const event of heard) log.accept(event)
      assert.isFalse(log.recover(read), JSON.stringify(read))
      assert.strictEqual(log.last, heard.length)
    }
  })

  it("keeps 256 events and 1 MiB of output for who comes later", () => {
    const { log } = make()
    for (let seq = 1; seq <= 1000; seq++) log.accept(output(seq))
    const cursor = { seq: 744, bytes: 0 }
    assert.strictEqual(log.take(cursor)._tag, "Events")
    assert.strictEqual(log.take({ seq: 743, bytes: 0 })._tag, "Behind")

    const large = make()
    for (let seq = 1; seq <= 20; seq++) large.log.accept(output(seq, Buffer.alloc(131072)))
    assert.strictEqual(large.log.take({ seq: 12, bytes: 0 })._tag, "Events")
    assert.strictEqual(large.log.take({ seq: 11, bytes: 0 })._tag, "Behind")
  })

  it.effect("a reader that is no more than 8 MiB late misses nothing, and holds nothing up when it leaves", () =>
    Effect.gen(function* () {
      const { log } = make()
      const reader = yield* Effect.fork(Stream.runCollect(EventReader.output({ processId: "p", log, read: unread })))
      yield* settle
      for (let seq = 1; seq <= 60; seq++) log.accept(output(seq, Buffer.alloc(131072, seq)))
      log.accept(exited(61))
      log.accept(closed(62))
      const chunks = Chunk.toReadonlyArray(yield* Fiber.join(reader))
      assert.deepStrictEqual(
        chunks.map((chunk) => chunk[0]),
        chunks.map((_, i) => i + 1)
      )
      assert.strictEqual(chunks.length, 60)
      assert.strictEqual(log.take({ seq: 40, bytes: 0 })._tag, "Behind")
    })
  )

  it.effect("a reader that is later than that reads what the server has, and is told exactly what is gone", () =>
    Effect.gen(function* () {
      const { log } = make()
      const seen: Array<ProcessEvent> = []
      let go = () => {}
      const read: EventReader.Source["read"] = (afterSeq) => {
        assert.strictEqual(afterSeq, 1)
        const chunks = Array.from({ length: 70 }, (_, i) => i + 31)
        return Effect.succeed({
          ...readResult([], 303, ended),
          chunks: chunks.map((seq) => ({ seq, stream: "stdout", chunk: Buffer.alloc(65536, seq) }))
        })
      }
      const reader = yield* Effect.fork(
        Stream.runForEach(EventReader.events({ processId: "p", log, read }), (event) =>
          Effect.async<void>((resume) => {
            seen.push(event)
            if (seen.length > 1) return resume(Effect.void)
            go = () => resume(Effect.void)
          })
        )
      )
      log.accept(output(1, Buffer.alloc(65536, 1)))
      yield* settle
      assert.strictEqual(seen.length, 1)
      for (let seq = 2; seq <= 300; seq++) log.accept(output(seq, Buffer.alloc(65536, seq)))
      log.accept(exited(301))
      log.accept(closed(302))
      go()
      yield* Fiber.join(reader)
      const missed = seen.flatMap((event) => (event._tag === "Missed" ? [event] : []))
      const numbers = seen.flatMap((event) => (event._tag === "Missed" ? [] : [event.seq]))
      const bytes = seen.reduce((total, event) => total + (event._tag === "Output" ? event.chunk.length : 0), 0)
      assert.strictEqual(missed.length, 1)
      assert.strictEqual(missed[0]?.fromSeq, 2)
      assert.deepStrictEqual(
        numbers,
        Array.from(new Set(numbers)).sort((a, b) => a - b)
      )
      assert.isTrue([31, 100, 300, 301, 302].every((seq) => numbers.includes(seq)))
      assert.isFalse(numbers.includes(30))
      assert.strictEqual((missed[0]?.events ?? 0) + numbers.length, 302)
      assert.strictEqual((missed[0]?.bytes ?? 0) + bytes, 300 * 65536)
    })
  )

  it("restarts are what is missing of a process that may restart, and where nothing was dropped", () => {
    const restarting = () => new EventLog(() => {}, true)
    const log = restarting()
    assert.isTrue(log.recover(readResult([1, 3, 5], 8, ended)))
    const step = log.take({ seq: 0, bytes: 0 })
    assert.deepStrictEqual(step._tag === "Events" ? step.events.map(({ _tag, seq }) => `${_tag} ${seq}`) : [], [
      "Output 1",
      "Restarted 2",
      "Output 3",
      "Restarted 4",
      "Output 5",
      "Exited 6",
      "Closed 7"
    ])
    assert.isFalse(restarting().recover(readResult([1, 3, 5], 8, { ...ended, truncated: true })))
    assert.isFalse(make().log.recover(readResult([1, 3, 5], 8, ended)))
  })

  it.effect("a restart that a reader is too late for is told all the same, and is no missed output", () =>
    Effect.gen(function* () {
      const { log } = make()
      log.accept(output(1))
      log.accept(ProcessEvent.Restarted({ seq: 2, attempt: 1, pid: 7 }))
      for (let seq = 3; seq <= 302; seq++) log.accept(output(seq))
      log.accept(exited(303))
      log.accept(closed(304))
      const chunks = Array.from({ length: 302 }, (_, i) => i + 1).filter((seq) => seq !== 2)
      const source = { processId: "p", log, read: () => Effect.succeed(readResult(chunks, 305, ended)) }
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(EventReader.events(source)))
      assert.deepStrictEqual(
        events.slice(0, 3).map(({ _tag }) => _tag),
        ["Output", "Restarted", "Output"]
      )
      assert.strictEqual(events.length, 304)
      assert.strictEqual(yield* Stream.runCount(EventReader.output(source)), 301)
    })
  )

  it.effect("output fails rather than leave anything out", () =>
    Effect.gen(function* () {
      const { log } = make()
      for (let seq = 1; seq <= 300; seq++) log.accept(output(seq, "abc"))
      const read = () => new ServerError({ code: -32600, reason: "unknown process id p" })
      const error = yield* failureOf(Stream.runDrain(EventReader.output({ processId: "p", log, read })))
      assert.deepInclude(error, { _tag: "OutputMissed", events: 44, bytes: 132 })
    })
  )

  it.effect("a failure comes after everything that was there, also for who comes later", () =>
    Effect.gen(function* () {
      const { log } = make()
      const error = new TransportClosed({ reason: undefined })
      log.accept(output(1))
      log.accept(output(3))
      log.fail(error)
      log.accept(output(2))
      for (let i = 0; i < 2; i++) {
        const seen: Array<string> = []
        const source = { processId: "p", log, read: unread }
        const failed = yield* failureOf(
          Stream.runForEach(EventReader.output(source), (chunk) => Effect.sync(() => seen.push(chunk.toString())))
        )
        assert.strictEqual(failed, error)
        assert.deepStrictEqual(seen, ["1 "])
      }
    })
  )
})
