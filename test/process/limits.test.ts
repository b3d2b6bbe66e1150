/** The limits that a start gets, and what is told of its usage; with fake children. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Limits } from "../../src/process/ProcessLimits.js"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import type { ExitUsage } from "../../src/protocol/StartLimits.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import type { FakeSpawner, Options } from "../../src/testing/FakeSpawner.js"
import { type Bench, bench, failureOf, params, supervisorLayer } from "../support/fake.js"

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>,
  settings: Partial<Limits> = {},
  options: Options = {}
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer({}, settings, options))))

const limitsOf = ({ start, fake }: Bench, processId: string, more: object = {}) =>
  Effect.map(start(processId, more), () => fake.requests.at(-1)?.limits)

describe("the limits of a start", () => {
  test("are those that it asks for; without any, the child has none", (bench) =>
    Effect.gen(function* () {
      const limits = { memoryBytes: 1e9, cpus: 1.5, pids: 10, openFiles: 64, nice: 3 }
      assert.deepStrictEqual(yield* limitsOf(bench, "p", { limits }), limits)
      assert.isUndefined(yield* limitsOf(bench, "q"))
      assert.isUndefined(yield* limitsOf(bench, "r", { limits: {} }))
    }))

  test(
    "are the server's defaults where it does not ask for others",
    (bench) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* limitsOf(bench, "p"), { pids: 512, openFiles: 100 })
        const limits = { openFiles: 200, coreBytes: 0 }
        assert.deepStrictEqual(yield* limitsOf(bench, "q", { limits }), { pids: 512, openFiles: 200, coreBytes: 0 })
      }),
    { defaultLimits: ["pids=512", "nofile=100"] }
  )

  test(
    "are the server's maxima where it has no default, and no default exceeds them",
    (bench) =>
      Effect.gen(function* () {
        const most = { memoryBytes: 2147483648, cpus: 0.5, openFiles: 64, nice: 5 }
        assert.deepStrictEqual(yield* limitsOf(bench, "p"), most)
        const limits = { memoryBytes: 1048576, nice: 19 }
        assert.deepStrictEqual(yield* limitsOf(bench, "q", { limits }), { ...most, ...limits })
      }),
    { defaultLimits: ["nofile=100"], maxLimits: ["memory=2g", "cpus=0.5", "nofile=64", "nice=5"] }
  )

  test(
    "beyond a maximum are refused, with both numbers; a priority may only be lower",
    ({ supervisor, fake }) =>
      Effect.gen(function* () {
        const refused = (limits: object) => failureOf(supervisor.start(params("p", { limits })))
        assert.include((yield* refused({ openFiles: 65 })).message, "`limits.openFiles` is 65; this server allows 64")
        assert.include((yield* refused({ nice: 4 })).message, "`limits.nice` is 4; this server allows 5")
        assert.lengthOf(fake.requests, 0)
      }),
    { maxLimits: ["nofile=64", "nice=5"] }
  )

  test(
    "that the spawner cannot enforce are refused with its reason, defaults too",
    ({ supervisor, fake }) =>
      Effect.gen(function* () {
        assert.strictEqual((yield* failureOf(supervisor.start(params("p")))).message, "no cgroup for 512")
        assert.lengthOf(fake.requests, 0)
      }),
    { defaultLimits: ["pids=512"] },
    { refusalOf: ({ pids }) => `no cgroup for ${pids}` }
  )
})

const usage: ExitUsage = {
  userCpuMs: 10,
  systemCpuMs: 5,
  maxRssBytes: 1000,
  majorFaults: 1,
  readBytes: 512,
  writeBytes: 1024
}

describe("the usage of a process", () => {
  test("is told by a wait after its exit; absent before, and where it is not known", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      assert.notProperty(yield* process.wait("exited", 0), "usage")
      child.exit(ExitStatus.Exited({ code: 0 }), usage)
      assert.deepStrictEqual((yield* process.wait("exited", 0)).usage, usage)
      assert.notProperty(yield* process.wait("exited", 0), "oomKilled")
      const other = yield* start("q")
      other.child.finish(0)
      assert.notProperty(yield* other.process.wait("exited", 0), "usage")
    }))

  test("is the sum of its starts, with the largest memory; oomKilled is about the last one", ({ start, fake }) =>
    Effect.gen(function* () {
      const restart = { policy: "always", maxRestarts: 1, withinMs: 10_000, backoffMs: 0, maxBackoffMs: 0 }
      const { process, child } = yield* start("p", { restart })
      child.endOutput()
      child.exit(ExitStatus.Exited({ code: 0 }), { ...usage, peakMemoryBytes: 9, oomKills: 2 })
      const second = yield* fake.child(1)
      yield* process.untilLeft("Restarting")
      second.exit(ExitStatus.Exited({ code: 0 }), { ...usage, maxRssBytes: 999, peakMemoryBytes: 8, oomKills: 0 })
      const told = yield* process.wait("exited", 0)
      assert.deepStrictEqual(told.usage, {
        userCpuMs: 20,
        systemCpuMs: 10,
        maxRssBytes: 1000,
        majorFaults: 2,
        readBytes: 1024,
        writeBytes: 2048,
        peakMemoryBytes: 9,
        oomKills: 2
      })
      assert.notProperty(told, "oomKilled")
    }))

  test("with a kill for lack of memory is told so", ({ start }) =>
    Effect.gen(function* () {
      const { process, child } = yield* start("p")
      child.exit(ExitStatus.Signaled({ number: 9, signal: "SIGKILL" }), { ...usage, oomKills: 1 })
      assert.strictEqual((yield* process.wait("exited", 0)).oomKilled, true)
    }))
})
