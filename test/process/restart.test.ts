import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import { ExitStatus, SpawnError } from "../../src/spawn/Child.js"
import type { FakeSpawner, Plan } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, bytes, id, settle, supervisorLayer } from "../support/fake.js"

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  plan: Plan = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer(plan))))

const restart = (more: object = {}) => ({
  restart: { policy: "always", maxRestarts: 3, withinMs: 10_000, backoffMs: 100, maxBackoffMs: 1000, ...more }
})

const force = { type: "force" } as const

/** Lets what is due happen, and what follows from it. */
const pass = (ms: number) =>
  settle.pipe(Effect.zipRight(TestClock.adjust(ms)), Effect.zipRight(settle), Effect.zipRight(settle))

describe("restart", () => {
  test("a process that ends is started again, with its id and its counter", ({ start, fake, of }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", restart())
      child.emit("stdout", "one")
      child.finish(0)
      assert.isFalse((yield* process.wait("exited", 0)).exited)
      assert.deepInclude(process.info(), { running: true, pid: null })
      yield* pass(99)
      assert.lengthOf(fake.children, 1)
      yield* pass(1)
      const second = fake.children[1]
      assert.deepStrictEqual(second?.spec, child.spec)
      second?.emit("stdout", "two")
      assert.deepStrictEqual(of("p"), [
        ["output", 1, "stdout", "one"],
        ["restarted", 2, 1, second?.pid],
        ["output", 3, "stdout", "two"]
      ])
      assert.strictEqual(process.info().pid, second?.pid)
      const { chunks, nextSeq } = yield* process.read(0, Number.POSITIVE_INFINITY, 0)
      assert.deepStrictEqual(
        chunks.map(({ seq }) => seq),
        [1, 3]
      )
      assert.strictEqual(nextSeq, 4)
    }))

  test("the end that is one too many is final, and tells its own status", ({ start, fake, of }) =>
    Effect.gen(function* () {
      const { process } = yield* start("p", restart({ maxRestarts: 2 }))
      const waiting = yield* Effect.fork(process.wait("closed", Number.POSITIVE_INFINITY))
      fake.children[0]?.finish(1)
      yield* pass(1000)
      fake.children[1]?.finish(2)
      yield* pass(1000)
      fake.children[2]?.finish(3)
      yield* pass(0)
      assert.deepStrictEqual(of("p").slice(2), [
        ["exited", 3, 3, null, false],
        ["closed", 4]
      ])
      assert.deepStrictEqual(yield* Fiber.join(waiting), { exited: true, exitCode: 3, signal: null, closed: true })
      yield* pass(100_000)
      assert.lengthOf(fake.children, 3)
    }))

  test("ends that are further apart than withinMs are never too many", ({ start, fake }) =>
    Effect.gen(function* () {
      yield* start("p", restart({ maxRestarts: 1 }))
      for (let round = 0; round < 5; round++) {
        fake.children[round]?.finish(1)
        // The delay is the first one each time.
        yield* pass(100)
        assert.lengthOf(fake.children, round + 2)
        yield* pass(10_000)
      }
    }))

  test("each delay is twice the one before, up to maxBackoffMs", ({ start, fake }) =>
    Effect.gen(function* () {
      yield* start("p", restart({ maxRestarts: 100, withinMs: 1_000_000 }))
      const delays = [100, 200, 400, 800, 1000, 1000]
      for (const [round, delay] of delays.entries()) {
        fake.children[round]?.finish(1)
        yield* pass(delay - 1)
        assert.lengthOf(fake.children, round + 1)
        yield* pass(1)
        assert.lengthOf(fake.children, round + 2)
      }
    }))

  test("onFailure: a status other than 0 and a signal, but not success", ({ start, fake, of }) =>
    Effect.gen(function* () {
      yield* start("p", restart({ policy: "onFailure" }))
      fake.children[0]?.finish(1)
      yield* pass(1000)
      fake.children[1]?.die("SIGSEGV")
      yield* pass(1000)
      fake.children[2]?.exit(ExitStatus.Lost({ reason: "?" }))
      fake.children[2]?.endOutput()
      yield* pass(1000)
      fake.children[3]?.finish(0)
      yield* pass(0)
      assert.deepStrictEqual(of("p").slice(3), [
        ["exited", 4, 0, null, false],
        ["closed", 5]
      ])
    }))

  test("never", ({ start, of }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p", restart({ policy: "never" }))
      child.finish(1)
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 1, null, false],
        ["closed", 2]
      ])
    }))

  test("terminate ends it for good, while it runs and while it waits", ({ start, supervisor, fake, of }) =>
    Effect.gen(function* () {
      yield* start("a", restart())
      assert.deepStrictEqual(yield* supervisor.terminate(id("a"), force), { running: true })
      yield* pass(100_000)
      assert.deepStrictEqual(of("a"), [
        ["exited", 1, 137, "SIGKILL", false],
        ["closed", 2]
      ])
      yield* start("b", restart())
      fake.children[1]?.finish(7)
      yield* pass(50)
      assert.deepStrictEqual(yield* supervisor.terminate(id("b"), force), { running: true })
      assert.deepStrictEqual(of("b"), [
        ["exited", 1, 7, null, false],
        ["closed", 2]
      ])
      assert.deepStrictEqual(yield* supervisor.terminate(id("b"), force), { running: false })
      yield* pass(100_000)
      assert.lengthOf(fake.children, 2)
    }))

  test("a graceful termination is not answered by another start", ({ start, supervisor, fake, of }) =>
    Effect.gen(function* () {
      yield* start("p", restart())
      yield* supervisor.terminate(id("p"), { type: "graceful", timeoutMs: 5000 })
      yield* pass(100_000)
      assert.lengthOf(fake.children, 1)
      assert.deepStrictEqual(of("p")[0], ["exited", 1, 143, "SIGTERM", false])
    }))

  for (const when of ["while a child runs", "between two children"]) {
    test(`the end of input ${when} is that of all children to come`, ({ start, fake }) =>
      Effect.gen(function* () {
        const { process } = yield* start("p", { ...restart(), pipeStdin: true })
        if (when === "while a child runs") process.closeStdin()
        fake.children[0]?.finish(1)
        yield* pass(50)
        if (when === "between two children") {
          assert.strictEqual(yield* process.write(Buffer.from("x"), undefined), "starting")
          process.closeStdin()
        }
        assert.strictEqual(yield* process.write(Buffer.from("x"), undefined), "stdinClosed")
        yield* pass(100)
        assert.isTrue(fake.children[1]?.stdinEnded)
        assert.strictEqual(yield* process.write(Buffer.from("x"), undefined), "stdinClosed")
      }))
  }

  test("timeoutMs counts from the first start, and is the end", ({ start, fake, of }) =>
    Effect.gen(function* () {
      yield* start("p", { ...restart({ maxRestarts: 100 }), timeoutMs: 5000 })
      fake.children[0]?.finish(1)
      yield* pass(4999)
      assert.lengthOf(fake.children, 2)
      yield* pass(1)
      assert.deepStrictEqual(of("p").slice(1), [
        ["exited", 2, 137, "SIGKILL", true],
        ["closed", 3]
      ])
    }))

  test("a descendant of the last child that holds the output open is killed first", ({ start, fake, of }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p", restart())
      child.remains = true
      child.exit(ExitStatus.Exited({ code: 1 }))
      child.emit("stdout", "late")
      yield* pass(0)
      yield* pass(100)
      assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      assert.lengthOf(fake.children, 2)
      assert.deepStrictEqual(of("p")[0], ["output", 1, "stdout", "late"])
    }))

  test("the next child gets the size of the terminal, a stdin of its own, and no write twice", ({ start, fake }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", { ...restart(), tty: true })
      process.resize(10, 20)
      assert.strictEqual(yield* process.write(bytes("a"), "1"), "accepted")
      child.finish(1)
      assert.strictEqual(yield* process.write(bytes("b"), "2"), "starting")
      yield* pass(100)
      const next = fake.children[1]
      assert.deepStrictEqual(next?.spec.io, { _tag: "Pty", rows: 10, cols: 20 })
      assert.strictEqual(yield* process.write(bytes("a"), "1"), "accepted")
      assert.strictEqual(yield* process.write(bytes("b"), "2"), "accepted")
      assert.strictEqual(next?.written, "b")
    }))

  test("a child that was paused has a paused successor", ({ start, fake }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", restart())
      process.pause()
      child.finish(1)
      // What a paused child wrote is given up after a second.
      yield* pass(1000)
      yield* pass(100)
      assert.isTrue(fake.children[1]?.paused)
      process.resume()
      assert.isFalse(fake.children[1]?.paused)
    }))

  test("the end of the session ends it, and nothing is started any more", ({ start, supervisor, fake, of }) =>
    Effect.gen(function* () {
      yield* start("p", restart())
      fake.children[0]?.finish(5)
      yield* pass(50)
      yield* supervisor.end(0)
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 5, null, false],
        ["closed", 2]
      ])
      yield* pass(100_000)
      assert.lengthOf(fake.children, 1)
    }))

  let spawns = 0
  test(
    "a start that fails counts, and when there are too many the last end stands, with the reason",
    ({ start, fake, of }) =>
      Effect.gen(function* () {
        const { process } = yield* start("p", restart({ maxRestarts: 3 }))
        fake.children[0]?.finish(9)
        yield* pass(99)
        assert.strictEqual(spawns, 1)
        for (const delay of [1, 200, 400]) yield* pass(delay)
        assert.strictEqual(spawns, 4)
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 9, null, false],
          ["closed", 2]
        ])
        const result = yield* process.read(0, Number.POSITIVE_INFINITY, 0)
        assert.deepInclude(result, { exitCode: 9, failure: "out of everything" })
      }),
    { before: Effect.suspend(() => (spawns++ === 0 ? Effect.void : new SpawnError({ message: "out of everything" }))) }
  )
})
