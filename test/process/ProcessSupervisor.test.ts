import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { weightOf, weightOfAll } from "../../src/process/Allowance.js"
import { OutputBuffer } from "../../src/process/OutputBuffer.js"
import type { Limits } from "../../src/process/ProcessLimits.js"
import { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import type { TerminateMode } from "../../src/protocol/ExecApi.js"
import { codeOf } from "../../src/protocol/Failure.js"
import { Confiner } from "../../src/sandbox/Confiner.js"
import { ExitStatus, SpawnError } from "../../src/spawn/Child.js"
import { SessionWaits, type Waits } from "../../src/spawn/SessionWaits.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { diesOf, type FakeSpawner, immortal, type Plan, stubborn } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, failureOf, id, params, recorder, settle, supervisorLayer } from "../support/fake.js"
import { sandbox } from "../support/sandbox.js"

const force: TerminateMode = { type: "force" }
const graceful = (timeoutMs: number): TerminateMode => ({ type: "graceful", timeoutMs })

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  plan: Plan = {},
  limits: Partial<Limits> = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer(plan, limits))))

describe("start", () => {
  test("asks for exactly what the client asked for", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      yield* supervisor.start(params("p", { argv: ["a", "b"], arg0: "zero", env: { A: "1" }, cwd: "/var/tmp" }))
      assert.deepStrictEqual(fake.requests, [
        {
          argv: ["a", "b"],
          arg0: "zero",
          cwd: "/var/tmp",
          env: { A: "1" },
          io: { _tag: "Pipe", stdin: false }
        }
      ])
    }))

  test("pipes with stdin, a terminal of 24 by 80, one of a chosen size, and a terminal in spite of pipeStdin", (b) =>
    Effect.gen(function* () {
      yield* b.supervisor.start(params("a", { pipeStdin: true }))
      yield* b.supervisor.start(params("b", { tty: true }))
      yield* b.supervisor.start(params("c", { tty: true, size: { rows: 7, cols: 9 } }))
      yield* b.supervisor.start(params("d", { tty: true, pipeStdin: true }))
      assert.deepStrictEqual(
        b.fake.requests.map(({ io }) => io),
        [
          { _tag: "Pipe", stdin: true },
          { _tag: "Pty", rows: 24, cols: 80 },
          { _tag: "Pty", rows: 7, cols: 9 },
          { _tag: "Pty", rows: 24, cols: 80 }
        ]
      )
    }))

  test("refuses members of which one could not be carried out, naming it", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      const envPolicy = { inherit: "all", ignoreDefaultExcludes: false, exclude: [], set: {}, includeOnly: [] }
      for (const [more, named] of [
        [{ size: { rows: 7, cols: 9 } }, "`size`"],
        [{ prepared: true, envPolicy }, "`envPolicy`"]
      ] as const) {
        const failure = yield* failureOf(supervisor.start(params("p", more)))
        assert.strictEqual(codeOf(failure), -32602)
        assert.include(failure.message, named)
      }
      assert.deepStrictEqual(fake.requests, [])
      yield* supervisor.start(params("p", { prepared: true, env: { A: "1" } }))
      assert.deepStrictEqual(fake.requests[0]?.env, { A: "1" })
    }))

  test("with an envPolicy takes it, unless the request is prepared", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      const envPolicy = { inherit: "none", ignoreDefaultExcludes: false, exclude: [], set: { A: "1" }, includeOnly: [] }
      yield* supervisor.start(params("p", { env: {}, envPolicy }))
      assert.deepStrictEqual(fake.requests[0]?.env, { A: "1" })
    }))

  test("has the identifiers that its client gave it in its environment, and no others", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      const threadId = "0191d8b0-0000-7000-8000-000000000001"
      const env = { A: "1", CODEX_THREAD_ID: "its own" }
      for (const [index, [metadata, expected]] of [
        [
          { threadId, toolCallId: "call" },
          { A: "1", CODEX_THREAD_ID: threadId, CODEX_TOOL_CALL_ID: "call" }
        ],
        [{ threadId }, { A: "1", CODEX_THREAD_ID: threadId }],
        [{ toolCallId: "call" }, { ...env, CODEX_TOOL_CALL_ID: "call" }],
        [{}, env]
      ].entries()) {
        yield* supervisor.start(params(`p${index}`, { env, metadata }))
        assert.deepStrictEqual(fake.requests[index]?.env as object, expected)
      }
    }))

  test("gives the pid, and announces it before anything else", ({ supervisor, fake, all }) =>
    Effect.gen(function* () {
      const { pid } = yield* supervisor.start(params("p"))
      const child = yield* fake.child(0)
      child.emit("stdout", "early")
      child.finish(0)
      yield* settle
      assert.strictEqual(child.pid, pid)
      assert.deepStrictEqual(all("p"), [
        ["started", pid],
        ["output", 1, "stdout", "early"],
        ["exited", 2, 0, null, false],
        ["closed", 3]
      ])
    }))

  test("refuses an empty argv", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      const failure = yield* failureOf(supervisor.start(params("p", { argv: [] })))
      assert.strictEqual(codeOf(failure), -32602)
      assert.strictEqual(failure.message, "argv must not be empty")
      assert.lengthOf(fake.requests, 0)
    }))

  test("an empty id is as good as any", ({ supervisor, start }) =>
    Effect.gen(function* () {
      yield* start("")
      assert.strictEqual(supervisor.find(id(""))?.processId, "")
    }))

  test("an id is taken while its process runs, has exited, and is retained", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      const taken = Effect.map(failureOf(supervisor.start(params("p"))), (failure) => {
        assert.strictEqual(codeOf(failure), -32600)
        assert.strictEqual(failure.message, "process p already exists")
      })
      yield* taken
      child.exit(ExitStatus.Exited({ code: 0 }))
      yield* taken
      child.endOutput()
      yield* taken
      yield* TestClock.adjust("29 seconds")
      yield* taken
    }))

  test("a failed spawn frees the id, and the answer goes before the news", ({ supervisor, fake, all, start }) =>
    Effect.gen(function* () {
      fake.failNext("No such file or directory (os error 2)")
      const failure = yield* failureOf(supervisor.start(params("p")))
      assert.strictEqual(codeOf(failure), -32603)
      assert.strictEqual(failure.message, "No such file or directory (os error 2): program")
      assert.deepStrictEqual(all("p"), [])
      assert.isUndefined(supervisor.find(id("p")))
      yield* settle
      assert.deepStrictEqual(all("p"), [["failed", "No such file or directory (os error 2): program"]])
      yield* start("p")
    }))

  test(
    "refuses what is more than processBytesPerSession together, until closed processes are forgotten",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const argv = ["program", "x".repeat(5000)]
        const { child } = yield* start("a", { argv })
        const failure = yield* failureOf(supervisor.start(params("b", { argv })))
        assert.strictEqual(codeOf(failure), -32600)
        assert.include(failure.message, "the limit processBytesPerSession (20000) is reached")
        assert.isUndefined(supervisor.find(id("b")))
        yield* start("small")
        child.finish(0)
        yield* settle
        assert.include((yield* failureOf(supervisor.start(params("b", { argv })))).message, "processBytesPerSession")
        yield* TestClock.adjust("30 seconds")
        yield* start("b", { argv })
      }),
    {},
    { processBytesPerSession: 20_000 }
  )

  test(
    "keeps an environment for restarts alone",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const env = { A: "x".repeat(8000) }
        yield* start("a", { env })
        yield* start("b", { env })
        const restart = { policy: "always", maxRestarts: 1, withinMs: 1, backoffMs: 1, maxBackoffMs: 1 }
        const failure = yield* failureOf(supervisor.start(params("c", { env, restart })))
        assert.include(failure.message, "processBytesPerSession")
      }),
    {},
    { processBytesPerSession: 16_000 }
  )

  test(
    "counts waiting input and the ids of writes until they are gone",
    ({ start }) =>
      Effect.gen(function* () {
        const { process, child } = yield* start("a", { pipeStdin: true })
        const other = yield* start("b", { pipeStdin: true })
        const chunk = Buffer.alloc(4000)
        assert.strictEqual(yield* process.write(chunk, "w"), "accepted")
        assert.strictEqual(yield* other.process.write(chunk, undefined), "accepted")
        for (const each of [process, other.process]) {
          const { message } = yield* failureOf(each.write(chunk, undefined))
          assert.include(message, "the limit processBytesPerSession (12000) is reached")
        }
        // The first one was accepted: to hear so again takes nothing.
        assert.strictEqual(yield* process.write(chunk, "w"), "accepted")
        child.exit(ExitStatus.Exited({ code: 0 }))
        yield* settle
        assert.strictEqual(yield* other.process.write(chunk, undefined), "accepted")
        assert.include((yield* failureOf(other.process.write(Buffer.alloc(2000), undefined))).message, "(12000)")
      }),
    { holdWrites: true },
    { processBytesPerSession: 12_000 }
  )

  const weights: ReadonlyArray<readonly [what: string, bytes: number, more: object]> = [
    ["its id and its arguments", 1024 + weightOf("p") + weightOfAll(["program", "x"]), { argv: ["program", "x"] }],
    [
      "for a restart, its environment and what is set in it as well",
      1024 + weightOf("p") + weightOfAll(["program"]) + weightOfAll({ A: "1" }) + weightOfAll({ B: "22" }),
      {
        env: { A: "1" },
        envPolicy: { inherit: "none", ignoreDefaultExcludes: false, exclude: [], set: { B: "22" }, includeOnly: [] },
        restart: { policy: "always", maxRestarts: 1, withinMs: 1, backoffMs: 1, maxBackoffMs: 1 }
      }
    ]
  ]
  for (const [what, processBytesPerSession, more] of weights) {
    const fits = ({ supervisor }: Bench) => supervisor.start(params("p", more))
    test(`counts ${what}, to the byte: what fits is started`, fits, {}, { processBytesPerSession })
    test(
      `counts ${what}, to the byte: what does not fit is refused`,
      (bench) =>
        Effect.map(failureOf(fits(bench)), ({ message }) => assert.include(message, `(${processBytesPerSession - 1})`)),
      {},
      { processBytesPerSession: processBytesPerSession - 1 }
    )
  }

  it.scoped("has the same waits for all starts of a session, and others for each session", () => {
    const all: Array<Waits> = []
    const spawn = () =>
      Effect.flatMap(SessionWaits, (waits) => {
        all.push(waits)
        return new SpawnError({ message: "no" })
      })
    const layer = ProcessSupervisor.layer.pipe(
      Layer.provide(OutputBuffer.layer),
      Layer.provide(Layer.succeed(Spawner, { confines: false, spawn }))
    )
    return Effect.gen(function* () {
      const { make } = yield* ProcessSupervisor
      const [one, other] = [
        yield* make(recorder().events, yield* Effect.scope),
        yield* make(recorder().events, yield* Effect.scope)
      ]
      for (const supervisor of [one, one, other]) yield* failureOf(supervisor.start(params("p")))
      assert.lengthOf(all, 3)
      assert.strictEqual(all[0], all[1])
      assert.notStrictEqual(all[0], all[2])
    }).pipe(Effect.provide(layer))
  })

  it.scoped("a session that has ended leaves others all that it had taken", () =>
    Effect.gen(function* () {
      const { make } = yield* ProcessSupervisor
      const large = { argv: ["program", "x".repeat(150_000)] }
      for (let round = 0; round < 3; round++) {
        yield* Effect.scoped(
          Effect.gen(function* () {
            const supervisor = yield* make(recorder().events, yield* Effect.scope)
            yield* supervisor.start(params("a", large))
            assert.include((yield* failureOf(supervisor.start(params("b", large)))).message, "processBytesTotal")
          })
        )
      }
    }).pipe(Effect.provide(supervisorLayer({}, { processBytesTotal: 400_000 })))
  )

  it.scoped("who needs little starts processes when other sessions have taken processBytesTotal", () =>
    Effect.gen(function* () {
      const { make } = yield* ProcessSupervisor
      const [greedy, modest] = [
        yield* make(recorder().events, yield* Effect.scope),
        yield* make(recorder().events, yield* Effect.scope)
      ]
      const argv = ["program", "x".repeat(90_000)]
      yield* greedy.start(params("a", { argv }))
      yield* greedy.start(params("b", { argv }))
      const failure = yield* failureOf(greedy.start(params("c", { argv })))
      assert.include(failure.message, "the limit processBytesTotal (400000) is reached")
      yield* modest.start(params("a", { argv }))
      const large = yield* failureOf(modest.start(params("b", { argv })))
      assert.include(large.message, "processBytesTotal")
    }).pipe(Effect.provide(supervisorLayer({}, { processBytesTotal: 400_000 })))
  )

  test(
    "refuses more processes than maxProcessesPerSession; closed ones do not count, exited ones do",
    ({ supervisor, start, fake }) =>
      Effect.gen(function* () {
        const { child } = yield* start("a")
        yield* start("b")
        const failure = yield* failureOf(supervisor.start(params("c")))
        assert.strictEqual(codeOf(failure), -32600)
        assert.include(failure.message, "maxProcessesPerSession")
        child.exit(ExitStatus.Exited({ code: 0 }))
        yield* settle
        assert.include((yield* failureOf(supervisor.start(params("c")))).message, "maxProcessesPerSession")
        child.endOutput()
        yield* settle
        fake.failNext("no")
        yield* failureOf(supervisor.start(params("c")))
        yield* start("c")
      }),
    {},
    { maxProcessesPerSession: 2 }
  )

  test(
    "allowDirectExec: false refuses plain requests alone, and names the key",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const failure = yield* failureOf(supervisor.start(params("p")))
        assert.strictEqual(codeOf(failure), -32600)
        assert.include(failure.message, "allowDirectExec")
        yield* start("p", { prepared: true })
      }),
    {},
    { allowDirectExec: false }
  )

  test(
    "allowPreparedExec: false refuses prepared requests alone, and names the key",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const failure = yield* failureOf(supervisor.start(params("p", { prepared: true })))
        assert.strictEqual(codeOf(failure), -32600)
        assert.include(failure.message, "allowPreparedExec")
        yield* start("p")
      }),
    {},
    { allowPreparedExec: false }
  )
})

describe("find, get and list", () => {
  test("list has every process in the order of the starts, until its retention is over", ({
    supervisor,
    start,
    fake
  }) =>
    Effect.gen(function* () {
      yield* start("z")
      const { child } = yield* start("a")
      fake.failNext("no")
      yield* failureOf(supervisor.start(params("failed")))
      yield* start("m")
      child.finish(3)
      yield* settle
      const ids = () => supervisor.list().map(({ processId }) => processId as string)
      assert.deepStrictEqual(ids(), ["z", "a", "m"])
      assert.deepInclude(supervisor.list()[1]?.info(), {
        processId: id("a"),
        running: false,
        exitCode: 3,
        signal: null
      })
      yield* TestClock.adjust("31 seconds")
      assert.deepStrictEqual(ids(), ["z", "m"])
    }))

  test("an unknown id is nobody's", ({ supervisor }) =>
    Effect.gen(function* () {
      assert.isUndefined(supervisor.find(id("nope")))
      assert.isUndefined(yield* supervisor.act(id("nope"), Effect.succeed))
    }))

  test("startedAtMs is the time of the start", ({ supervisor, start }) =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1234 seconds")
      yield* start("p")
      assert.strictEqual(supervisor.list()[0]?.info().startedAtMs, 1_234_000)
    }))
})

describe("retention", () => {
  test("begins at closed, not at exited", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      child.exit(ExitStatus.Exited({ code: 0 }))
      yield* TestClock.adjust("10 minutes")
      assert.isDefined(supervisor.find(id("p")))
      child.emit("stdout", "late")
      child.endOutput()
      yield* TestClock.adjust("29 seconds")
      assert.isDefined(supervisor.find(id("p")))
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(supervisor.find(id("p")))
    }))

  test("is not extended by reading", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.finish(0)
      yield* TestClock.adjust("20 seconds")
      yield* process.read(0, 100, 0)
      yield* TestClock.adjust("11 seconds")
      assert.isUndefined(supervisor.find(id("p")))
    }))

  test("its end frees the id, and numbers begin anew", ({ start, all }) =>
    Effect.gen(function* () {
      const first = yield* start("p")
      first.child.finish(0)
      yield* TestClock.adjust("31 seconds")
      const second = yield* start("p")
      second.child.emit("stderr", "again")
      assert.deepStrictEqual(all("p"), [
        ["started", first.child.pid],
        ["exited", 1, 0, null, false],
        ["closed", 2],
        ["started", second.child.pid],
        ["output", 1, "stderr", "again"]
      ])
    }))

  test(
    "lasts as long as configured",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        child.finish(0)
        yield* TestClock.adjust("99 seconds")
        assert.isDefined(supervisor.find(id("p")))
        yield* TestClock.adjust("2 seconds")
        assert.isUndefined(supervisor.find(id("p")))
      }),
    {},
    { closedProcessRetentionMs: 100_000 }
  )
})

describe("timeoutMs", () => {
  test("kills the tree when it runs out, and the exit says so", ({ start, of }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p", { timeoutMs: 60_000 })
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(child.signals, [])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 137, "SIGKILL", true],
        ["closed", 2]
      ])
    }))

  test("means nothing to a process that closes in time", ({ start, of }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p", { timeoutMs: 60_000 })
      child.finish(0)
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(child.signals, [])
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 0, null, false],
        ["closed", 2]
      ])
    }))

  test(
    "ends what is left of the tree after the leader's exit",
    ({ start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p", { timeoutMs: 60_000 })
        child.exit(ExitStatus.Exited({ code: 0 }))
        yield* TestClock.adjust("61 seconds")
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 0, null, false],
          ["closed", 2]
        ])
      }),
    { remains: true }
  )

  test("leaves a process that a SIGTERM of its own made exit alone", ({ supervisor, start, of }) =>
    Effect.gen(function* () {
      yield* start("p", { timeoutMs: 60_000 })
      yield* supervisor.terminate(id("p"), graceful(1000))
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 143, "SIGTERM", false],
        ["closed", 2]
      ])
    }))

  test(
    "does not claim a process that ended by itself just before the kill",
    ({ start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p", { timeoutMs: 60_000 })
        yield* TestClock.adjust("61 seconds")
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        child.finish(3)
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 3, null, false],
          ["closed", 2]
        ])
      }),
    { onSignal: immortal }
  )

  test(
    "leaves alone what lives on of a process that closed in time",
    ({ start }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p", { timeoutMs: 5000 })
        child.finish(0)
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(child.signals, [])
        child.remains = false
      }),
    { remains: true }
  )

  test("of 0 ends a process as soon as it runs", ({ start, of }) =>
    Effect.gen(function* () {
      yield* start("p", { timeoutMs: 0 })
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 137, "SIGKILL", true],
        ["closed", 2]
      ])
    }))
})

describe("terminate", () => {
  test("kills the tree at once, and answers that the leader had not exited", ({ supervisor, start, of }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      assert.deepStrictEqual(yield* supervisor.terminate(id("p"), force), { running: true })
      assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      yield* settle
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 137, "SIGKILL", false],
        ["closed", 2]
      ])
      assert.deepStrictEqual(yield* supervisor.terminate(id("p"), force), { running: false })
      assert.lengthOf(child.signals, 1)
    }))

  test("answers running: false for an unknown id", ({ supervisor }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* supervisor.terminate(id("p"), force), { running: false })
      assert.deepStrictEqual(yield* supervisor.terminate(id("p"), graceful(5)), { running: false })
    }))

  test(
    "ends what is left of the tree after the leader's exit, so that closed comes",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        child.exit(ExitStatus.Exited({ code: 4 }))
        assert.deepStrictEqual(yield* supervisor.terminate(id("p"), force), { running: false })
        yield* settle
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 4, null, false],
          ["closed", 2]
        ])
      }),
    { remains: true }
  )

  test(
    "gives up the output that a descendant outside of the tree holds open",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), force)
        child.exit(ExitStatus.Signaled({ number: 9, signal: "SIGKILL" }))
        child.emit("stdout", "from the daemon")
        yield* TestClock.adjust("10 seconds")
        assert.isTrue(child.abandoned)
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 137, "SIGKILL", false],
          ["output", 2, "stdout", "from the daemon"],
          ["closed", 3]
        ])
      }),
    { onSignal: immortal }
  )

  test(
    "gracefully: what is left of the tree when the leader has closed is killed when the time has run out",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(5000))
        yield* settle
        child.exit(ExitStatus.Exited({ code: 0 }))
        child.endOutput()
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(child.signals, [
          ["SIGTERM", "tree"],
          ["SIGKILL", "tree"]
        ])
      }),
    { remains: true, onSignal: immortal }
  )

  test("gracefully: nothing waits any more once the tree has ended", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      yield* supervisor.terminate(id("p"), graceful(5000))
      yield* settle
      // What takes its number from now on is somebody else's.
      child.remains = true
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      child.remains = false
    }))

  test("gracefully: SIGTERM to the tree at once, and no SIGKILL for a tree that ends in time", ({
    supervisor,
    start,
    of
  }) =>
    Effect.gen(function* () {
      const { child } = yield* start("p")
      assert.deepStrictEqual(yield* supervisor.terminate(id("p"), graceful(5000)), { running: true })
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      assert.deepStrictEqual(of("p"), [
        ["exited", 1, 143, "SIGTERM", false],
        ["closed", 2]
      ])
    }))

  test(
    "gracefully: SIGKILL to the tree when the time has run out",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(5000))
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
        assert.deepStrictEqual(of("p"), [])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(child.signals, [
          ["SIGTERM", "tree"],
          ["SIGKILL", "tree"]
        ])
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 137, "SIGKILL", false],
          ["closed", 2]
        ])
      }),
    { onSignal: stubborn }
  )

  test(
    "gracefully: SIGKILL to what is left of the tree of a leader that took the SIGTERM",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(5000))
        yield* settle
        assert.deepStrictEqual(of("p"), [["exited", 1, 143, "SIGTERM", false]])
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(child.signals, [
          ["SIGTERM", "tree"],
          ["SIGKILL", "tree"]
        ])
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 143, "SIGTERM", false],
          ["closed", 2]
        ])
      }),
    { remains: true }
  )

  test(
    "gracefully, then by force: the second does not wait for the first",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(3_600_000))
        assert.deepStrictEqual(yield* supervisor.terminate(id("p"), force), { running: true })
        yield* settle
        assert.deepStrictEqual(of("p"), [
          ["exited", 1, 137, "SIGKILL", false],
          ["closed", 2]
        ])
      }),
    { onSignal: stubborn }
  )

  test("gracefully, a later process of the same id is left alone", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const first = yield* start("p")
      yield* supervisor.terminate(id("p"), graceful(60_000))
      yield* TestClock.adjust("31 seconds")
      const second = yield* start("p")
      yield* TestClock.adjust("60 seconds")
      assert.deepStrictEqual(first.child.signals, [["SIGTERM", "tree"]])
      assert.deepStrictEqual(second.child.signals, [])
    }))
})

describe("end", () => {
  test("without grace kills every tree at once", ({ supervisor, start, of }) =>
    Effect.gen(function* () {
      const a = yield* start("a")
      const b = yield* start("b")
      yield* supervisor.end(0)
      for (const { child } of [a, b]) assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      assert.deepStrictEqual(of("a").at(-1), ["closed", 2])
      assert.deepStrictEqual(of("b").at(-1), ["closed", 2])
    }))

  test("with grace: SIGTERM first, and SIGKILL only for those that did not end in time", ({
    supervisor,
    fake,
    start,
    of
  }) =>
    Effect.gen(function* () {
      fake.next({ onSignal: diesOf("SIGTERM") })
      const good = yield* start("good")
      fake.next({ onSignal: stubborn })
      const bad = yield* start("bad")
      const ending = yield* Effect.fork(supervisor.end(2000))
      yield* settle
      assert.deepStrictEqual(of("good"), [
        ["exited", 1, 143, "SIGTERM", false],
        ["closed", 2]
      ])
      assert.deepStrictEqual(bad.child.signals, [["SIGTERM", "tree"]])
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(ending)
      assert.deepStrictEqual(good.child.signals, [["SIGTERM", "tree"]])
      assert.deepStrictEqual(bad.child.signals, [
        ["SIGTERM", "tree"],
        ["SIGKILL", "tree"]
      ])
      assert.deepStrictEqual(of("bad"), [
        ["exited", 1, 137, "SIGKILL", false],
        ["closed", 2]
      ])
    }))

  test("with grace is over as soon as all have ended", ({ supervisor, start }) =>
    Effect.gen(function* () {
      yield* start("p")
      // No clock is moved: were it to wait for the time, it would wait for ever.
      yield* supervisor.end(2000)
    }))

  test(
    "is bounded where a child does not even die of SIGKILL",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        yield* start("p")
        const ending = yield* Effect.fork(supervisor.end(2000))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(ending)
      }),
    { onSignal: immortal }
  )

  test(
    "reaches what lives on of processes that are forgotten",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        // Its descendant has closed its output but lives.
        child.finish(0)
        yield* TestClock.adjust("31 seconds")
        assert.isUndefined(supervisor.find(id("p")))
        yield* supervisor.end(0)
        assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      }),
    { remains: true, onSignal: immortal }
  )

  test("gives those that ran, and not those that had exited", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const exited = yield* start("exited")
      exited.child.exit(ExitStatus.Exited({ code: 0 }))
      yield* start("ran")
      const restarting = yield* start("restarting", {
        restart: { policy: "always", maxRestarts: 3, withinMs: 10_000, backoffMs: 1000, maxBackoffMs: 1000 }
      })
      restarting.child.finish(1)
      yield* settle
      const ending = yield* Effect.fork(supervisor.end(0))
      yield* TestClock.adjust("3 seconds")
      const ran = yield* Fiber.join(ending)
      assert.deepStrictEqual(
        ran.map(({ processId }) => processId),
        ["ran", "restarting"]
      )
    }))

  test(
    "takes two seconds at most, however many children do not even die of SIGKILL",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        for (const name of ["a", "b", "c"]) yield* start(name)
        const ending = yield* Effect.fork(supervisor.end(0))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        yield* TestClock.adjust("999 millis")
        yield* settle
        assert.isNull(ending.unsafePoll())
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.isNotNull(ending.unsafePoll())
      }),
    { onSignal: immortal }
  )

  test(
    "kills a child whose start comes to its end meanwhile at once, and starts no more",
    ({ supervisor, start, fake }) =>
      Effect.gen(function* () {
        yield* start("stubborn")
        const gate = yield* Deferred.make<void>()
        fake.next({ before: Deferred.await(gate), onSignal: stubborn })
        const starting = yield* Effect.fork(supervisor.start(params("late")))
        yield* settle
        // The stubborn one has its grace: for a minute the session is ending.
        const ending = yield* Effect.fork(supervisor.end(60_000))
        yield* settle
        const { message } = yield* failureOf(supervisor.start(params("later")))
        assert.strictEqual(message, "the session is ending: no more processes are started")
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(starting)
        yield* settle
        assert.isNull(ending.unsafePoll())
        const late = yield* fake.child(1)
        assert.deepStrictEqual(late.signals, [["SIGKILL", "tree"]])
        assert.isTrue(late.exited)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(ending)
        assert.lengthOf(fake.children, 2)
      }),
    { onSignal: stubborn }
  )

  test(
    "reaches what lives on of every forgotten process, and only that",
    ({ supervisor, start }) =>
      Effect.gen(function* () {
        const { child: a } = yield* start("a")
        const { child: b } = yield* start("b")
        const { child: gone } = yield* start("gone")
        for (const child of [a, b, gone]) child.finish(0)
        yield* TestClock.adjust("31 seconds")
        assert.lengthOf(supervisor.list(), 0)
        gone.remains = false
        yield* supervisor.end(0)
        assert.deepStrictEqual(a.signals, [["SIGKILL", "tree"]])
        assert.deepStrictEqual(b.signals, [["SIGKILL", "tree"]])
        assert.deepStrictEqual(gone.signals, [])
      }),
    { remains: true, onSignal: immortal }
  )
})

describe("a confined start", () => {
  const confinement = { mounts: undefined, placeholders: [], isolated: true }
  const confining = (title: string, body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
    it.scoped(title, () =>
      Effect.flatMap(bench, body).pipe(
        Effect.provide(
          supervisorLayer({}, {}, { confines: true }).pipe(
            Layer.provide(
              Layer.succeed(Confiner, { isConfined: () => false, confine: () => Effect.succeed(confinement) })
            )
          )
        )
      )
    )

  confining("is spawned with its confinement, and so is its successor", ({ supervisor, fake }) =>
    Effect.gen(function* () {
      const restart = { policy: "always", maxRestarts: 3, withinMs: 10_000, backoffMs: 100, maxBackoffMs: 100 }
      assert.isTrue((yield* supervisor.start(params("p", { restart, sandbox: sandbox([]) }))).confined)
      yield* settle
      const child = yield* fake.child(0)
      child.finish(1)
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        fake.requests.map((spec) => spec.confinement),
        [confinement, confinement]
      )
    })
  )

  confining("that fails with the words of a refusal says what its cause may be", ({ start, all }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p", { sandbox: sandbox([]) })
      child.emit("stderr", "touch: Permission denied")
      child.finish(1)
      assert.isTrue(process.sandboxDenied)
      assert.deepStrictEqual(all("p").at(-1), ["closed", 3])
    })
  )

  confining("is none without a sandbox, which nobody is asked about", ({ supervisor, start }) =>
    Effect.gen(function* () {
      const { confined } = yield* supervisor.start(params("q"))
      assert.isFalse(confined)
      const { process, child } = yield* start("p")
      child.emit("stderr", "touch: Permission denied")
      child.finish(1)
      assert.isFalse(process.sandboxDenied)
    })
  )
})

describe("the scope", () => {
  it.scoped("when it closes, every tree that lives is killed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { start } = yield* Scope.extend(bench, scope)
      const a = yield* start("a")
      const b = yield* start("b")
      b.child.finish(0)
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(a.child.signals, [["SIGKILL", "tree"]])
      assert.deepStrictEqual(b.child.signals, [])
    }).pipe(Effect.provide(supervisorLayer()))
  )
})
