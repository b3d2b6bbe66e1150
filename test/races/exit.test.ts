import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import { codeOf } from "../../src/protocol/Failure.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { maxChunkBytes } from "../../src/spawn/ReadBuffer.js"
import { type FakeSpawner, immortal, type Plan } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, id, params, settle, supervisorLayer } from "../support/fake.js"

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  plan: Plan = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer(plan))))

const exited = (code: number) => ExitStatus.Exited({ code })

describe("exit and the end of output", () => {
  test("output ends before the exit: the process runs until it exits, then closes at once", ({ start, of }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "x")
      child.endOutput()
      yield* settle
      assert.strictEqual(process.tag, "Running")
      assert.isTrue(process.info().running)
      child.exit(exited(0))
      assert.strictEqual(process.tag, "Closed")
      assert.deepStrictEqual(of("p"), [
        ["output", 1, "stdout", "x"],
        ["exited", 2, 0, null, false],
        ["closed", 3]
      ])
    }))

  test("the exit comes before the end of output: what follows is numbered on, and closed is last", ({ start, of }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "early")
      child.exit(exited(4))
      assert.strictEqual(process.tag, "Exited")
      child.emit("stdout", "late")
      child.emit("stderr", "later")
      child.endOutput()
      assert.deepStrictEqual(of("p"), [
        ["output", 1, "stdout", "early"],
        ["exited", 2, 4, null, false],
        ["output", 3, "stdout", "late"],
        ["output", 4, "stderr", "later"],
        ["closed", 5]
      ])
    }))

  test("both come before the reports began: nothing is lost", ({ supervisor, fake, of }) =>
    Effect.gen(function* () {
      yield* supervisor.start(params("p"))
      const child = yield* fake.child(0)
      child.emit("stdout", "x".repeat(100_000))
      child.exit(exited(1))
      child.endOutput()
      yield* settle
      assert.deepStrictEqual(of("p"), [
        ["output", 1, "stdout", "x".repeat(maxChunkBytes)],
        ["output", 2, "stdout", "x".repeat(100_000 - maxChunkBytes)],
        ["exited", 3, 1, null, false],
        ["closed", 4]
      ])
    }))
})

describe("those who wait", () => {
  test("a read after the last output is woken by the exit, and one after the exit by the close", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "x")
      const first = yield* Effect.fork(process.read(1, 100, 3_600_000))
      yield* settle
      child.exit(exited(0))
      assert.deepInclude(yield* Fiber.join(first), { chunks: [], nextSeq: 3, exited: true, exitCode: 0, closed: false })
      const second = yield* Effect.fork(process.read(2, 100, 3_600_000))
      yield* settle
      assert.isNull(second.unsafePoll())
      child.endOutput()
      assert.deepInclude(yield* Fiber.join(second), { chunks: [], nextSeq: 4, exited: true, closed: true })
    }))

  test("a wait for the exit and its time-out in the same moment: the answer is one that was true", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const waiting = yield* Effect.fork(process.wait("exited", 5000))
      yield* settle
      const exiting = yield* Effect.fork(
        Effect.delay(
          Effect.sync(() => child.exit(exited(3))),
          "5 seconds"
        )
      )
      yield* settle
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(exiting)
      const result = yield* Fiber.join(waiting)
      assert.strictEqual(result.exitCode, result.exited ? 3 : null)
      child.endOutput()
    }))

  test("many who wait are all woken, and those who gave up before are not missed", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const fibers = yield* Effect.forEach(Array.from({ length: 50 }), (_, i) =>
        Effect.fork(process.wait(i % 2 === 0 ? "exited" : "closed", Number.POSITIVE_INFINITY))
      )
      yield* settle
      for (const [i, fiber] of fibers.entries()) if (i % 5 === 0) yield* Fiber.interrupt(fiber)
      child.finish(0)
      for (const [i, fiber] of fibers.entries()) {
        if (i % 5 !== 0) assert.deepInclude(yield* Fiber.join(fiber), { exited: true, closed: true })
      }
    }))

  test("a read that waits when the process is forgotten has been answered by its close", ({ start, supervisor }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const reading = yield* Effect.fork(process.read(0, 100, 3_600_000))
      yield* settle
      child.finish(0)
      yield* TestClock.adjust("31 seconds")
      assert.deepInclude(yield* Fiber.join(reading), { nextSeq: 3, closed: true })
      assert.isUndefined(supervisor.find(id("p")))
    }))
})

describe("timeoutMs", () => {
  test(
    "runs out in the moment of the exit: one of them is the reason, and it is the one told",
    ({ start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p", { timeoutMs: 5000 })
        yield* Effect.fork(
          Effect.delay(
            Effect.sync(() => child.finish(0)),
            "5 seconds"
          )
        )
        yield* settle
        yield* TestClock.adjust("5 seconds")
        yield* settle
        const [end] = of("p")
        assert.include([0, 137], end?.[2] as number)
        assert.lengthOf(of("p"), 2)
      }),
    { onSignal: immortal }
  )

  test(
    "runs out, and the killed leader is reaped much later: it timed out",
    ({ start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p", { timeoutMs: 5000 })
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        yield* TestClock.adjust("10 seconds")
        child.endOutput()
        child.exit(ExitStatus.Signaled({ number: 9, signal: "SIGKILL" }))
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 137, "SIGKILL", true],
          ["closed", 2]
        ])
      }),
    { onSignal: immortal }
  )
})

describe("the end of the retention", () => {
  test("in the moment of a start of the same id: it is refused, or it is a new process", ({
    start,
    supervisor,
    fake
  }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      child.finish(0)
      yield* settle
      const starting = yield* Effect.fork(Effect.delay(Effect.either(supervisor.start(params("p"))), "30 seconds"))
      yield* settle
      yield* TestClock.adjust("30 seconds")
      const result = yield* Fiber.join(starting)
      yield* settle
      if (result._tag === "Left") {
        assert.strictEqual(codeOf(result.left), -32600)
        assert.isUndefined(supervisor.find(id("p")))
      } else {
        assert.lengthOf(fake.children, 2)
        assert.isTrue(supervisor.find(id("p"))?.info().running)
      }
    }))
})
