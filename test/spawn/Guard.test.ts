/** The guard that cannot be started, or does not stay: how often that is tried, and how often it is said. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/TestClock"
import { Guard } from "../../src/spawn/Guard.js"
import * as Posix from "../../src/spawn/Posix.js"
import { entryOf } from "../../src/spawn/ProcessTree.js"
import { child, pidOf } from "../support/children.js"
import { descriptors, eventually, guardOf, isAlive } from "../support/servers.js"

/** Guards that the test lets fail: when each was started, what it was told, and the log. */
const bench = () => {
  const starts: Array<number> = []
  const told: Array<Array<string>> = []
  const lines: Array<string> = []
  const ended: Array<number> = []
  const failures: Array<(reason: string) => void> = []
  let throws = false
  let fail: (reason: string) => void = () => {}
  const guard = (clock: { readonly unsafeCurrentTimeMillis: () => number }) =>
    Guard.layerOf((onFailure) => {
      const index = starts.push(clock.unsafeCurrentTimeMillis()) - 1
      if (throws) throw new Error("spawn EAGAIN")
      fail = onFailure
      failures.push(onFailure)
      const lines: Array<string> = []
      told.push(lines)
      return { socket: 40 + index, write: (line) => void lines.push(line), end: () => void ended.push(index) }
    })
  const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
  const layer = Layer.unwrapEffect(Effect.map(Effect.clock, guard)).pipe(
    Layer.provide(Logger.replace(Logger.defaultLogger, logger))
  )
  const control = {
    fail: (reason: string) => fail(reason),
    throws: (value: boolean) => {
      throws = value
    }
  }
  return { starts, told, lines, ended, failures, layer, ...control }
}

const failure = "the guard that ends processes if this server is killed has failed"
const leader = { pid: 7, startTime: 1 }

describe("a guard that cannot be started", () => {
  it.effect("is tried again after 200 ms, twice as long each time, and every 30 s in the end", () => {
    const { starts, layer, throws } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      yield* TestClock.adjust("2 minutes")
      const waits = starts.slice(1).map((at, i) => at - (starts[i] ?? 0))
      assert.deepStrictEqual(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000])
      // Whoever comes meanwhile does not hurry it.
      guard.register({ pid: 8, startTime: 1 })
      assert.lengthOf(starts, waits.length + 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is said once, and then once a minute with how often", () => {
    const { lines, layer, throws } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(lines, [`${failure}: Error: spawn EAGAIN`])
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(lines.slice(1), [
        `${failure} 8 more times within a minute: Error: spawn EAGAIN`,
        `${failure} 2 more times within a minute: Error: spawn EAGAIN`,
        `${failure} 2 more times within a minute: Error: spawn EAGAIN`
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that then starts is told everything, and what fails after that is said again", () => {
    const { starts, told, lines, layer, throws, fail } = bench()
    return Effect.gen(function* () {
      throws(true)
      const guard = yield* Guard
      guard.register(leader)
      guard.addFolder("/f")
      throws(false)
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(told, [["+ 7 1", "f /f"]])
      yield* TestClock.adjust("2 minutes")
      assert.lengthOf(starts, 2)
      fail("it ended with SIGKILL")
      yield* TestClock.adjust("199 millis")
      assert.lengthOf(starts, 2)
      // The waits begin anew.
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(starts, 3)
      assert.deepStrictEqual(lines, [`${failure}: Error: spawn EAGAIN`, `${failure}: it ended with SIGKILL`])
    }).pipe(Effect.provide(layer))
  })

  it.effect("is not tried any more when the server has ended", () => {
    const { starts, ended, layer, fail } = bench()
    return Effect.gen(function* () {
      yield* Effect.provide(
        Effect.flatMap(Guard, (guard) => Effect.sync(() => guard.register(leader))),
        layer
      )
      assert.deepStrictEqual(ended, [0])
      fail("it ended with status 0")
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(starts, 1)
      yield* Effect.provide(
        Effect.flatMap(Guard, (guard) =>
          Effect.sync(() => {
            guard.register(leader)
            fail("it ended with status 2")
          })
        ),
        layer
      )
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(starts, 2)
    })
  })
})

describe("a guard of the version before", () => {
  const state = {
    running: { pid: 99, socket: 12, unread: [] },
    leaders: [leader, { pid: 8, startTime: 2 }, { pid: 9, startTime: 3 }],
    folders: ["/f"]
  }

  it.effect("is told of nothing that it knows, and of what it does not", () => {
    const { starts, told, layer } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.adopt(state)
      guard.restore(leader)
      guard.restoreFolder("/f")
      assert.lengthOf(starts, 1)
      assert.deepStrictEqual(told, [[]])
      guard.unregister(leader)
      guard.register({ pid: 10, startTime: 4 })
      guard.removeFolder("/f")
      assert.deepStrictEqual(told, [["- 7 1", "+ 10 4", "g /f"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("says whom nobody has restored, once", () => {
    const { layer } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.adopt(state)
      guard.restore({ pid: 8, startTime: 2 })
      assert.deepStrictEqual(
        guard.takeOthers().map(({ pid }) => pid),
        [7, 9]
      )
      assert.deepStrictEqual(guard.takeOthers(), [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that is gone is replaced by one that is told everything", () => {
    const { told, layer, fail } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.adopt(state)
      guard.restore(leader)
      fail("it ended with SIGKILL")
      yield* TestClock.adjust("200 millis")
      guard.restore({ pid: 8, startTime: 2 })
      assert.deepStrictEqual(told, [[], ["+ 7 1", "+ 8 2"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that was not carried over is replaced when all are restored", () => {
    const { told, layer } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.adopt({ leaders: state.leaders, folders: [] })
      guard.restore(leader)
      assert.deepStrictEqual(told, [])
      guard.takeOthers()
      assert.deepStrictEqual(told, [["+ 7 1"]])
    }).pipe(Effect.provide(layer))
  })
})

describe("a guard that runs", () => {
  it.effect("is told of what comes and goes, and of nothing that it does not watch", () => {
    const { starts, told, layer } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      const other = { pid: 8, startTime: 2 }
      guard.register(other)
      guard.unregister(leader)
      guard.unregister(leader)
      // Its number was given to another one meanwhile.
      const later = { pid: 8, startTime: 3 }
      guard.register(later)
      guard.unregister(other)
      guard.addFolder("/f")
      guard.removeFolder("/f")
      assert.lengthOf(starts, 1)
      assert.deepStrictEqual(told, [["+ 7 1", "+ 8 2", "- 7 1", "+ 8 3", "f /f", "g /f"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("that replaces another one is told what is still there", () => {
    const { told, layer, fail } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      const gone = { pid: 8, startTime: 2 }
      guard.register(gone)
      guard.addFolder("/gone")
      fail("it ended with SIGKILL")
      guard.unregister(gone)
      guard.removeFolder("/gone")
      guard.register({ pid: 9, startTime: 3 })
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(told[1], ["+ 7 1", "+ 9 3"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("is replaced once, though it fails twice: nobody waits for one that was given up", () => {
    const { starts, lines, layer, failures } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      for (const fail of failures) fail("it ended with SIGKILL")
      for (const fail of failures) fail("again")
      yield* TestClock.adjust("200 millis")
      assert.lengthOf(starts, 2)
      for (const fail of failures.slice(0, 1)) fail("once more")
      yield* TestClock.adjust("1 minute")
      assert.lengthOf(starts, 2)
      assert.deepStrictEqual(lines, [`${failure}: it ended with SIGKILL`])
    }).pipe(Effect.provide(layer))
  })

  it.effect("for 30 seconds is waited for as briefly as the first one, and for less twice as long", () => {
    const { starts, layer, fail } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      fail("it ended with status 1")
      yield* TestClock.adjust("200 millis")
      yield* TestClock.adjust("29999 millis")
      fail("it ended with status 1")
      yield* TestClock.adjust("399 millis")
      assert.lengthOf(starts, 2)
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(starts, 3)
      yield* TestClock.adjust("30 seconds")
      fail("it ended with status 1")
      yield* TestClock.adjust("200 millis")
      assert.lengthOf(starts, 4)
      // The one that runs now is asked, and not another one started.
      guard.register({ pid: 8, startTime: 2 })
      assert.lengthOf(starts, 4)
    }).pipe(Effect.provide(layer))
  })

  it.effect("that failed once more within the minute is said so", () => {
    const { lines, layer, fail } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      fail("first")
      yield* TestClock.adjust("1 second")
      fail("second")
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(lines, [`${failure}: first`, `${failure} once more within a minute: second`])
    }).pipe(Effect.provide(layer))
  })

  it.effect("says where processes register themselves; where none can be started, they do not", () => {
    const { layer, throws, starts } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      throws(true)
      assert.strictEqual(guard.socket(), -1)
      assert.strictEqual(guard.socket(), -1)
      assert.lengthOf(starts, 1)
      throws(false)
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(guard.socket(), 41)
      assert.lengthOf(starts, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("is told which terminals the server has closed", () => {
    const { told, layer } = bench()
    return Effect.gen(function* () {
      const guard = yield* Guard
      guard.register(leader)
      guard.closeTerminal(leader)
      guard.unregister(leader)
      guard.closeTerminal(leader)
      assert.deepStrictEqual(told, [["+ 7 1", "= 7", "- 7 1"]])
    }).pipe(Effect.provide(layer))
  })
})

it.effect("no guard: processes register themselves nowhere", () =>
  Effect.gen(function* () {
    const guard = yield* Guard
    guard.register(leader)
    assert.strictEqual(guard.socket(), -1)
  }).pipe(Effect.provide(Guard.layerNone))
)

describe("the program that guards", () => {
  /** A guard of this process, and what its log says. */
  const running = Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
    const layer = Layer.provide(Guard.layer, Logger.replace(Logger.defaultLogger, logger))
    const ended = eventually("the guard is gone", () => guardOf(process.pid) === undefined)
    return Effect.zipRight(
      Effect.addFinalizer(() => ended),
      Effect.map(Layer.build(layer), (built) => ({ guard: Context.get(built, Guard), lines }))
    )
  })

  const sleeper = Effect.map(child("/bin/sleep", "1000"), (running) => {
    const pid = pidOf(running)
    return { pid, startTime: entryOf(pid)?.startTime ?? 0 }
  })

  /** More than its socket has room for: one that reads nothing is told the rest later. */
  const many = 5000
  /** A number that no process has. */
  const unused = (index: number) => ({ pid: 2 ** 22 - 1 - index, startTime: 1 })

  /** The pid of the guard, once its program runs. */
  const started = Effect.gen(function* () {
    yield* eventually("there is a guard", () => guardOf(process.pid) !== undefined)
    return guardOf(process.pid) ?? Number.NaN
  })

  /** The same, stopped: it reads nothing. */
  const stopped = Effect.tap(started, (pid) => Effect.sync(() => process.kill(pid, "SIGSTOP")))

  it.scopedLive("kills the groups of what is registered when the server is gone, and nothing else", () =>
    Effect.gen(function* () {
      const watched = yield* sleeper
      const unwatched = yield* sleeper
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { guard } = yield* running
          guard.register(watched)
          guard.register(unwatched)
          guard.unregister(unwatched)
          yield* started
        })
      )
      yield* eventually("the one that is registered is gone", () => !isAlive(watched.pid))
      assert.isTrue(isAlive(unwatched.pid))
    })
  )

  it.scopedLive("is replaced when it ends, and the log says how it ended", () =>
    Effect.gen(function* () {
      const watched = yield* sleeper
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { guard, lines } = yield* running
          guard.register(watched)
          const first = yield* started
          process.kill(first, "SIGKILL")
          yield* eventually("that is logged", () => lines.length === 1)
          assert.deepStrictEqual(lines, [`${failure}: it ended with SIGKILL`])
          // What it is told while there is none is for the next one.
          guard.closeTerminal(watched)
          yield* started
          assert.isTrue(isAlive(watched.pid))
        })
      )
      yield* eventually("the one that is registered is gone", () => !isAlive(watched.pid))
    })
  )

  it.scopedLive("that sees the end of its input ends by itself, with what is registered", () =>
    Effect.gen(function* () {
      const watched = yield* sleeper
      const { guard, lines } = yield* running
      guard.register(watched)
      Posix.tell(guard.socket(), "")
      yield* eventually("that is logged", () => lines.length === 1)
      assert.deepStrictEqual(lines, [`${failure}: it ended with status 0`])
      assert.isFalse(isAlive(watched.pid))
    })
  )

  it.scopedLive("leaves nothing open, however it ends", () =>
    Effect.gen(function* () {
      const watched = yield* sleeper
      const before = descriptors(process.pid)
      const build = Effect.tap(running, ({ guard }) => Effect.sync(() => guard.register(watched)))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { guard } = yield* build
          assert.strictEqual(descriptors(process.pid), before + 1, "its socket")
          // While it waits for one that reads nothing.
          const pid = yield* stopped
          for (let index = 0; index < many; index++) guard.register(unused(index))
          process.kill(pid, "SIGKILL")
          guard.unregister(watched)
          yield* eventually("there is another one", () => ![undefined, pid].includes(guardOf(process.pid)))
          yield* eventually("the socket of the first one is closed", () => descriptors(process.pid) === before + 1)
        })
      )
      assert.strictEqual(descriptors(process.pid), before)
      assert.isTrue(isAlive(watched.pid))
    })
  )

  it.scopedLive("that reads nothing for a while is told everything afterwards, in order", () =>
    Effect.gen(function* () {
      const [watched, unwatched, late] = [yield* sleeper, yield* sleeper, yield* sleeper]
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { guard, lines } = yield* running
          guard.register(unwatched)
          const pid = yield* stopped
          for (let index = 0; index < many; index++) guard.register(unused(index))
          guard.register(watched)
          guard.unregister(unwatched)
          for (let index = 0; index < many; index++) guard.unregister(unused(index))
          // A little at a time: there is not room for all of it at once.
          for (let round = 0; round < 5; round++) {
            process.kill(pid, "SIGCONT")
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
            process.kill(pid, "SIGSTOP")
            yield* Effect.sleep("20 millis")
          }
          process.kill(pid, "SIGCONT")
          // Once it has read all, its socket has room again.
          yield* eventually("it reads", () => Posix.tell(guard.socket(), "?"))
          guard.register(late)
          yield* Effect.sleep("500 millis")
          assert.deepStrictEqual(lines, [])
          assert.strictEqual(yield* started, pid)
        })
      )
      yield* eventually("those that are registered are gone", () => ![watched, late].some(({ pid }) => isAlive(pid)))
      assert.isTrue(isAlive(unwatched.pid))
    })
  )

  it.scopedLive("that never reads again is ended and replaced", () =>
    Effect.gen(function* () {
      const watched = yield* sleeper
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { guard, lines } = yield* running
          guard.register(watched)
          const pid = yield* stopped
          for (let index = 0; index < 60_000; index++) {
            const leader = unused(index % 1000)
            guard.register(leader)
            guard.unregister(leader)
          }
          yield* eventually("that is logged", () => lines.length === 1)
          assert.deepStrictEqual(lines, [`${failure}: it ended with SIGKILL`])
          assert.isFalse(isAlive(pid))
          yield* started
        })
      )
      yield* eventually("the one that is registered is gone", () => !isAlive(watched.pid))
    })
  )
})
