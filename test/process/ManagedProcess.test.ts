import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import type { Limits } from "../../src/process/ProcessLimits.js"
import { Event, State, transition } from "../../src/process/ProcessState.js"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { type FakeSpawner, immortal, type Plan } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, bytes, fill, settle, supervisorLayer } from "../support/fake.js"

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  plan: Plan = {},
  limits: Partial<Limits> = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer(plan, limits))))

const exited = (code: number) => ExitStatus.Exited({ code })
const everything = Number.POSITIVE_INFINITY

describe("transition", () => {
  test("moves one way only", ({ start }) =>
    Effect.gen(function* () {
      const { child: fake } = yield* start("p")
      const child = fake as never
      const status = exited(0)
      const spawned = Event.Spawned({ child })
      const reaped = Event.LeaderReaped({ status, restart: false })
      const ended = Event.OutputEnded()
      const running = State.Running({ child, outputEnded: false })
      const drained = State.Running({ child, outputEnded: true })
      const gone = State.Exited({ child, status })
      const closed = State.Closed({ child, status })
      const toRestart = Event.LeaderReaped({ status, restart: true })
      const abandoned = Event.RestartAbandoned()
      const restarting = State.Restarting({ child, status, outputEnded: false })
      const restartingDrained = State.Restarting({ child, status, outputEnded: true })
      const table: ReadonlyArray<readonly [State, Event, State]> = [
        [State.Starting(), spawned, running],
        [State.Starting(), Event.SpawnFailed(), State.Failed()],
        [State.Failed(), spawned, State.Failed()],
        [State.Starting(), reaped, State.Starting()],
        [State.Starting(), ended, State.Starting()],
        [running, spawned, running],
        [running, reaped, gone],
        [running, ended, drained],
        [drained, reaped, closed],
        [drained, ended, drained],
        [running, toRestart, restarting],
        [drained, toRestart, restartingDrained],
        [running, abandoned, running],
        [restarting, ended, restartingDrained],
        [restarting, spawned, running],
        [restartingDrained, spawned, running],
        [restarting, reaped, restarting],
        [restarting, abandoned, gone],
        [restartingDrained, abandoned, closed],
        [gone, abandoned, gone],
        [gone, ended, closed],
        [gone, reaped, gone],
        [gone, spawned, gone],
        [closed, spawned, closed],
        [closed, reaped, closed],
        [closed, ended, closed]
      ]
      for (const [from, event, to] of table) assert.deepStrictEqual(transition(from, event), to)
    }))
})

describe("listen", () => {
  test("tells of the close, also whoever asks after it", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const told: Array<string> = []
      process.listen(() => told.push("before"))
      child.exit(exited(0))
      assert.deepStrictEqual(told, [])
      child.endOutput()
      assert.deepStrictEqual(told, ["before"])
      process.listen(() => told.push("after"))
      assert.deepStrictEqual(told, ["before", "after"])
    }))
})

describe("read", () => {
  test("gives output with its numbers, and where to go on", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "a")
      child.emit("stderr", "b")
      const expected = {
        exited: false,
        exitCode: null,
        signal: null,
        closed: false,
        failure: null,
        sandboxDenied: false,
        truncated: false,
        droppedBytes: 0
      }
      assert.deepStrictEqual(yield* process.read(0, everything, 0), {
        chunks: [
          { seq: 1, stream: "stdout", chunk: bytes("a") },
          { seq: 2, stream: "stderr", chunk: bytes("b") }
        ],
        nextSeq: 3,
        ...expected
      })
      assert.deepStrictEqual(yield* process.read(0, 1, 0), {
        chunks: [{ seq: 1, stream: "stdout", chunk: bytes("a") }],
        nextSeq: 2,
        ...expected
      })
      assert.deepStrictEqual(yield* process.read(2, everything, 0), { chunks: [], nextSeq: 3, ...expected })
      assert.deepStrictEqual(yield* process.read(1000, everything, 0), { chunks: [], nextSeq: 3, ...expected })
    }))

  test("nextSeq counts the exit and the close, unless maxBytes held something back", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "a")
      child.emit("stdout", "b")
      child.finish(0)
      assert.strictEqual((yield* process.read(0, everything, 0)).nextSeq, 5)
      assert.strictEqual((yield* process.read(0, 1, 0)).nextSeq, 2)
      assert.strictEqual((yield* process.read(1, 1, 0)).nextSeq, 5)
    }))

  test("going on with nextSeq - 1 misses nothing, whatever maxBytes is", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const text = Array.from({ length: 50 }, (_, i) => "x".repeat((i * 7) % 23) + i)
      for (const part of text) child.emit("stdout", part)
      child.finish(0)
      for (const maxBytes of [0, 1, 10, 100, everything]) {
        let afterSeq = 0
        let seen = ""
        for (;;) {
          const { chunks, nextSeq } = yield* process.read(afterSeq, maxBytes, 0)
          if (chunks.length === 0) break
          seen += chunks.map(({ chunk }) => chunk.toString()).join("")
          afterSeq = nextSeq - 1
        }
        assert.strictEqual(seen, text.join(""))
      }
    }))

  test(
    "says how much was dropped, and whether it concerns the reader",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p")
        for (let i = 0; i < 4; i++) child.emit("stdout", fill(5))
        assert.deepInclude(yield* process.read(0, everything, 0), { truncated: true, droppedBytes: 10 })
        assert.deepInclude(yield* process.read(2, everything, 0), { truncated: false, droppedBytes: 10 })
      }),
    {},
    { retainedOutputBytesPerProcess: 10 }
  )

  test("waits for output", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const reading = yield* Effect.fork(process.read(0, everything, 60_000))
      yield* TestClock.adjust("59 seconds")
      assert.isNull(reading.unsafePoll())
      child.emit("stdout", "now")
      assert.strictEqual((yield* Fiber.join(reading)).chunks[0]?.chunk.toString(), "now")
    }))

  test("gives up after waitMs, with what there is: nothing", ({ start }) =>
    Effect.gen(function* () {
      const { process } = yield* start("p")
      const reading = yield* Effect.fork(process.read(0, everything, 60_000))
      yield* TestClock.adjust("61 seconds")
      assert.deepInclude(yield* Fiber.join(reading), { chunks: [], nextSeq: 1, exited: false })
    }))

  test("is not woken by output that it has seen", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const reading = yield* Effect.fork(process.read(5, everything, 60_000))
      yield* settle
      for (let i = 0; i < 5; i++) child.emit("stdout", "x")
      yield* settle
      assert.isNull(reading.unsafePoll())
      child.emit("stdout", "y")
      assert.strictEqual((yield* Fiber.join(reading)).chunks[0]?.seq, 6)
    }))

  test("waits for late output once the exit is no news", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.exit(exited(0))
      const reading = yield* Effect.fork(process.read(1, everything, 60_000))
      yield* settle
      assert.isNull(reading.unsafePoll())
      child.emit("stdout", "late")
      const { chunks } = yield* Fiber.join(reading)
      assert.deepStrictEqual(
        chunks.map(({ seq }) => seq),
        [2]
      )
    }))

  test("never waits for a closed process, nor for an exit that is news", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.exit(exited(0))
      assert.deepInclude(yield* process.read(0, everything, 3_600_000), { chunks: [], nextSeq: 2, exited: true })
      child.endOutput()
      assert.deepInclude(yield* process.read(1000, everything, 3_600_000), { nextSeq: 3, closed: true })
    }))
})

describe("wait", () => {
  test("for the exit, and for the close", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const forExit = yield* Effect.fork(process.wait("exited", everything))
      const forClose = yield* Effect.fork(process.wait("closed", everything))
      yield* settle
      child.exit(exited(7))
      assert.deepStrictEqual(yield* Fiber.join(forExit), { exited: true, exitCode: 7, signal: null, closed: false })
      assert.isNull(forClose.unsafePoll())
      child.endOutput()
      assert.deepStrictEqual(yield* Fiber.join(forClose), { exited: true, exitCode: 7, signal: null, closed: true })
    }))

  test("gives the process as it stands when the time has run out", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      const waiting = yield* Effect.fork(process.wait("closed", 5000))
      yield* settle
      child.exit(exited(7))
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* Fiber.join(waiting), { exited: true, exitCode: 7, signal: null, closed: false })
      assert.deepInclude(yield* process.wait("closed", 0), { closed: false })
    }))
})

describe("the exit", () => {
  for (const [status, exitCode, signal] of [
    [exited(0), 0, null],
    [exited(255), 255, null],
    [ExitStatus.Signaled({ number: 9, signal: "SIGKILL" }), 137, "SIGKILL"],
    [ExitStatus.Signaled({ number: 34, signal: "SIGRTMIN" }), 162, "SIGRTMIN"],
    [ExitStatus.Lost({ reason: "nobody knows" }), null, null]
  ] as const) {
    test(`${JSON.stringify(status)} reads ${exitCode} and ${signal} everywhere`, ({ start, of }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p")
        child.exit(status)
        child.endOutput()
        assert.deepStrictEqual(of("p")[0], ["exited", 1, exitCode, signal, false])
        assert.deepInclude(yield* process.read(0, 0, 0), { exited: true, exitCode, signal })
        assert.deepInclude(yield* process.wait("exited", 0), { exited: true, exitCode, signal })
        assert.deepInclude(process.snapshot(), { running: false, exitCode, signal })
        assert.deepInclude(process.info(), { running: false, exitCode, signal })
      }))
  }
})

describe("snapshot and info", () => {
  test("of pipes: each stream by itself", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "a")
      child.emit("stderr", "b")
      child.emit("stdout", "c")
      assert.deepStrictEqual(process.snapshot(), {
        stdout: bytes("ac"),
        stderr: bytes("b"),
        terminal: bytes(""),
        truncated: false,
        droppedBytes: 0,
        exitCode: null,
        signal: null,
        running: true
      })
      assert.deepInclude(process.info(), { pid: child.pid, argv: ["program"], tty: false, running: true })
    }))

  test("of a terminal: all in one", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", { tty: true })
      child.emit("pty", "screen")
      assert.deepInclude(process.snapshot(), { stdout: bytes(""), stderr: bytes(""), terminal: bytes("screen") })
      assert.isTrue(process.info().tty)
    }))
})

describe("input, sizes and signals", () => {
  test("input goes to pipes with stdin and to terminals, and is refused elsewhere", ({ start }) =>
    Effect.gen(function* () {
      const piped = yield* start("a", { pipeStdin: true })
      const terminal = yield* start("b", { tty: true })
      const neither = yield* start("c")
      assert.strictEqual(yield* piped.process.write(bytes("x"), undefined), "accepted")
      assert.strictEqual(yield* terminal.process.write(bytes("y"), undefined), "accepted")
      assert.strictEqual(yield* neither.process.write(bytes("z"), undefined), "stdinClosed")
      assert.deepStrictEqual([piped.child.written, terminal.child.written], ["x", "y"])
    }))

  test("is refused after the exit, after closeStdin, and after the child closed its end", ({ start }) =>
    Effect.gen(function* () {
      const a = yield* start("a", { pipeStdin: true })
      const b = yield* start("b", { pipeStdin: true })
      const c = yield* start("c", { tty: true })
      a.child.finish(0)
      b.process.closeStdin()
      c.child.closeStdin()
      for (const { process, child } of [a, b, c]) {
        assert.strictEqual(yield* process.write(bytes("x"), undefined), "stdinClosed")
        assert.strictEqual(child.written, "")
      }
    }))

  test("closeStdin is idempotent, also where stdin was never open", ({ start }) =>
    Effect.gen(function* () {
      const a = yield* start("a", { pipeStdin: true })
      const b = yield* start("b")
      for (const { process } of [a, a, b, b]) process.closeStdin()
      assert.deepStrictEqual([a.child.stdinEnds, b.child.stdinEnds], [1, 0])
      a.child.finish(0)
      a.process.closeStdin()
      assert.strictEqual(a.child.stdinEnds, 1)
    }))

  for (const kill of [
    (process: ManagedProcess) => process.kill(),
    (process: ManagedProcess) => process.signal("SIGKILL", "tree")
  ]) {
    test(
      `nothing asked for after a kill of the tree comes before it (${kill})`,
      ({ start }) =>
        Effect.gen(function* () {
          const { process, child } = yield* start("p", { tty: true })
          kill(process)
          assert.strictEqual(yield* process.write(bytes("late"), undefined), "stdinClosed")
          process.closeStdin()
          process.resize(5, 6)
          assert.deepStrictEqual([child.written, child.stdinEnds, child.resizes], ["", 0, []])
        }),
      { onSignal: immortal }
    )
  }

  for (const [signal, target] of [
    ["SIGTERM", "tree"],
    ["SIGKILL", "leader"],
    ["SIGKILL", "group"]
  ] as const) {
    test(
      `what is asked for after ${signal} to the ${target} is carried out: somebody may be alive`,
      ({ start }) =>
        Effect.gen(function* () {
          const { process, child } = yield* start("p", { tty: true })
          process.signal(signal, target)
          assert.strictEqual(yield* process.write(bytes("late"), undefined), "accepted")
          process.resize(5, 6)
          assert.deepStrictEqual([child.written, child.resizes], ["late", [[5, 6]]])
        }),
      { onSignal: immortal }
    )
  }

  test("a terminal gets its size also after the exit of the leader: descendants may still have it", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", { tty: true })
      process.resize(10, 20)
      child.exit(exited(0))
      process.resize(30, 40)
      assert.deepStrictEqual(child.resizes, [
        [10, 20],
        [30, 40]
      ])
    }))

  test("signals reach whom they are sent to; afterwards nobody, unless something of the tree lives on", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      process.signal("SIGUSR1", "leader")
      process.signal("SIGUSR2", "group")
      process.signal("SIGWINCH", "tree")
      child.remains = true
      child.exit(exited(0))
      process.signal("SIGCONT", "group")
      child.remains = false
      child.endOutput()
      process.signal("SIGHUP", "group")
      assert.deepStrictEqual(child.signals, [
        ["SIGUSR1", "leader"],
        ["SIGUSR2", "group"],
        ["SIGWINCH", "tree"],
        ["SIGCONT", "group"]
      ])
    }))

  test("a signal reaches what may hold the output open, wherever it is, until the output ends", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.exit(exited(0))
      process.signal("SIGTERM", "tree")
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      child.endOutput()
    }))

  test("a child that has closed its output still takes input", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", { pipeStdin: true })
      child.endOutput()
      assert.strictEqual(yield* process.write(bytes("x"), undefined), "accepted")
      assert.strictEqual(child.written, "x")
    }))

  test(
    "a kill refuses what waits to be written at once, also where the child does not die of it",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p", { pipeStdin: true })
        yield* process.write(fill(10), undefined)
        const waiting = yield* Effect.fork(process.write(bytes("x"), undefined))
        yield* settle
        process.kill()
        assert.strictEqual(yield* Fiber.join(waiting), "stdinClosed")
        assert.isFalse(child.exited)
      }),
    { holdWrites: true, onSignal: immortal },
    { stdinQueueBytesPerProcess: 10 }
  )
})

describe("where only the beginning and the end of the output are kept", () => {
  const headTail = { retain: "head-tail", retainedOutputBytesPerProcess: 1600 } as const

  test(
    "chunks come in pieces, so that little is lost at the gap",
    ({ start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        child.emit("stdout", "a".repeat(100))
        child.emit("stderr", `${"b".repeat(100)}${"c".repeat(100)}d`)
        assert.deepStrictEqual(of("p"), [
          ["output", 1, "stdout", "a".repeat(100)],
          ["output", 2, "stderr", "b".repeat(100)],
          ["output", 3, "stderr", "c".repeat(100)],
          ["output", 4, "stderr", "d"]
        ])
        child.emit("stdout", "e".repeat(200))
        assert.deepStrictEqual(of("p").slice(4), [
          ["output", 5, "stdout", "e".repeat(100)],
          ["output", 6, "stdout", "e".repeat(100)]
        ])
      }),
    {},
    headTail
  )

  test(
    "a snapshot tells what is missing of each stream, and where",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p")
        for (let i = 0; i < 30; i++) child.emit(i % 2 === 0 ? "stdout" : "stderr", fill(100))
        const { omitted, droppedBytes, truncated } = process.snapshot()
        assert.deepStrictEqual([droppedBytes, truncated], [1400, true])
        assert.deepStrictEqual(omitted, { stdout: { offset: 400, bytes: 700 }, stderr: { offset: 400, bytes: 700 } })
        const { gap } = yield* process.read(0, everything, 0)
        assert.deepStrictEqual(gap, { fromSeq: 9, throughSeq: 22, bytes: 1400 })
      }),
    {},
    headTail
  )

  test(
    "a snapshot of a terminal names it alone",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p", { tty: true })
        for (let i = 0; i < 16; i++) child.emit("pty", fill(100))
        assert.notProperty(process.snapshot(), "omitted")
        assert.notProperty(yield* process.read(0, everything, 0), "gap")
        child.emit("pty", fill(100))
        assert.deepStrictEqual(process.snapshot().omitted, { terminal: { offset: 800, bytes: 100 } })
      }),
    {},
    headTail
  )
})

describe("what nobody waits for", () => {
  test("is there at once: reads and waits without a time", ({ start }) =>
    Effect.gen(function* () {
      const { process } = yield* start("p")
      assert.deepStrictEqual(Effect.runSync(process.read(0, everything, 0)).chunks, [])
      assert.isFalse(Effect.runSync(process.wait("exited", 0)).exited)
    }))

  test("and released is gone: the output of a process that nobody can ask for", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.emit("stdout", "x")
      process.releaseOutput()
      assert.lengthOf(process.snapshot().stdout, 0)
      child.emit("stdout", "y")
      assert.lengthOf(process.snapshot().stdout, 0)
    }))
})

/** What happens when the scope of a process closes, noted after all that the process itself does there. */
const noteClose = (process: ManagedProcess, note: () => void) => Scope.addFinalizer(process.scope, Effect.sync(note))

describe("the scope of a process", () => {
  test(
    "ends its fibers, then kills what is left of its tree, and gives the output back",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("p", { timeoutMs: 1000 })
        child.emit("stdout", "x")
        const seen: Array<unknown> = []
        const waiting = Effect.onInterrupt(Effect.never, () => Effect.sync(() => seen.push([...child.signals])))
        const group = yield* process.fibers
        group.add(Effect.runFork(waiting))
        yield* settle
        yield* Scope.close(process.scope, Exit.void)
        assert.deepStrictEqual(seen, [[]])
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        assert.lengthOf(process.snapshot().stdout, 0)
        yield* TestClock.adjust(5000)
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      }),
    { onSignal: immortal }
  )

  test("closes when the process is forgotten", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      let closed = false
      yield* noteClose(process, () => {
        closed = true
      })
      child.finish(0)
      yield* settle
      yield* TestClock.adjust(29_999)
      assert.isFalse(closed)
      yield* TestClock.adjust(1)
      assert.isTrue(closed)
    }))
})
