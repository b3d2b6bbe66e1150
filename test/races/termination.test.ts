import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { FakeSpawner, immortal, type Plan, stubborn } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, id, params, serverLayer, settle, supervisorLayer } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"

const graceful = (timeoutMs: number) => ({ type: "graceful", timeoutMs }) as const
const killed = ExitStatus.Signaled({ number: 9, signal: "SIGKILL" })

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  plan: Plan = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer(plan))))

describe("a graceful termination that is pending", () => {
  it.scoped("when the session ends: the tree is killed at once, and nothing happens at the old time", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      yield* session.supervisor.terminate(id("p"), graceful(60_000))
      const child = yield* (yield* FakeSpawner).child(0)
      yield* registry.detach(session, false)
      assert.strictEqual(session.tag, "Ended")
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(child.signals, [
        ["SIGTERM", "tree"],
        ["SIGKILL", "tree"]
      ])
    }).pipe(Effect.provide(registryLayer({ onSignal: stubborn })))
  )

  it.scoped("when the connection is lost: it runs its course in the detached session", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.start("p", ["program"])
      yield* settle
      client.post("process/terminate", { processId: "p", mode: graceful(5000) })
      client.carrier.close()
      yield* client.ended()
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(child.signals, [
        ["SIGTERM", "tree"],
        ["SIGKILL", "tree"]
      ])
      assert.isTrue(child.exited)
    }).pipe(Effect.provide(serverLayer({ onSignal: stubborn })))
  )

  test(
    "when its leader exits in the moment its time runs out: the exit is told once",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(5000))
        yield* Effect.fork(
          Effect.delay(
            Effect.sync(() => child.die("SIGTERM")),
            "5 seconds"
          )
        )
        yield* settle
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(
          of("p").map(([kind]) => kind),
          ["exited", "closed"]
        )
      }),
    { onSignal: stubborn }
  )

  test(
    "and a second one: each sends its SIGTERM, and the earlier time decides",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), graceful(60_000))
        yield* supervisor.terminate(id("p"), graceful(5000))
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(child.signals, [
          ["SIGTERM", "tree"],
          ["SIGTERM", "tree"],
          ["SIGKILL", "tree"]
        ])
        assert.deepStrictEqual(of("p").at(-1), ["closed", 2])
        yield* TestClock.adjust("2 minutes")
        assert.lengthOf(child.signals, 3)
      }),
    { onSignal: stubborn }
  )

  test(
    "and timeoutMs: whichever comes first kills, and timedOut is told of a time-out alone",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        yield* start("a", { timeoutMs: 10_000 })
        yield* start("b", { timeoutMs: 10_000 })
        yield* supervisor.terminate(id("a"), graceful(5000))
        yield* supervisor.terminate(id("b"), graceful(60_000))
        yield* TestClock.adjust("2 minutes")
        assert.deepStrictEqual(of("a")[0], ["exited", 1, 137, "SIGKILL", false])
        assert.deepStrictEqual(of("b")[0], ["exited", 1, 137, "SIGKILL", true])
      }),
    { onSignal: stubborn }
  )
})

describe("terminate", () => {
  test(
    "whose leader is reaped late, while a stranger to the tree holds its output: closed comes",
    ({ supervisor, start, of }) =>
      Effect.gen(function* () {
        const { child } = yield* start("p")
        yield* supervisor.terminate(id("p"), { type: "force" })
        yield* TestClock.adjust("5 seconds")
        child.exit(killed)
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(
          of("p").map(([kind]) => kind),
          ["exited", "closed"]
        )
      }),
    { onSignal: immortal }
  )

  test("many times over: one exit and one close", ({ supervisor, start, of }) =>
    Effect.gen(function* () {
      yield* start("p")
      yield* Effect.forEach(
        Array.from({ length: 20 }),
        (_, i) => supervisor.terminate(id("p"), i % 2 === 0 ? { type: "force" } : graceful(i)),
        { concurrency: "unbounded" }
      )
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(
        of("p").map(([kind]) => kind),
        ["exited", "closed"]
      )
    }))

  it.scoped("sent by a client that hangs up at once is carried out", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.start("p", ["program"])
      yield* settle
      client.post("process/terminate", { processId: "p" })
      client.carrier.close()
      yield* client.ended()
      yield* settle
      assert.deepStrictEqual((yield* (yield* FakeSpawner).child(0)).signals, [["SIGKILL", "tree"]])
    }).pipe(Effect.provide(serverLayer()))
  )
})

describe("the end of a session", () => {
  it.scoped("when a process closes meanwhile: it is waited for no longer", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      const ending = yield* Effect.fork(registry.end(60_000))
      yield* settle
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      child.finish(0)
      yield* Fiber.join(ending)
      assert.strictEqual(session.tag, "Ended")
    }).pipe(Effect.provide(registryLayer({ onSignal: immortal })))
  )

  it.scoped("when a process is started meanwhile: it is refused or it ends with the session", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const fake = yield* FakeSpawner
      const session = yield* registry.create()
      fake.next({ onSignal: immortal })
      yield* session.supervisor.start(params("slow"))
      yield* settle
      const ending = yield* Effect.fork(registry.detach(session, false))
      yield* settle
      yield* Effect.either(session.supervisor.start(params("late")))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(ending)
      yield* settle
      for (const child of fake.children.slice(1)) assert.isTrue(child.exited)
    }).pipe(Effect.provide(registryLayer()))
  )
})
