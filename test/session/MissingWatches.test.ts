/** Which watch of a connection counts, and when its client is told. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Watched } from "../../src/filesystem/MissingWatch.js"
import { MissingWatches } from "../../src/session/MissingWatches.js"
import { settle } from "../support/fake.js"

const paths: Watched = { missing: [], present: undefined }

/** The watches of a connection over a file system that the test plays. */
const bench = (begin: (change: () => void) => Effect.Effect<boolean> = () => Effect.succeed(true)) => {
  /** What happens to watches, in order; they are numbered as they begin. */
  const log: Array<string> = []
  const changes: Array<() => void> = []
  const watches = new MissingWatches(
    (_, change) =>
      Effect.suspend(() => {
        const number = changes.push(change)
        log.push(`begin ${number}`)
        return Effect.zipRight(
          Effect.addFinalizer(() => Effect.sync(() => log.push(`end ${number}`))),
          begin(change)
        )
      }),
    (method, params) => void log.push(`${method} ${JSON.stringify(params)}`)
  )
  /** Asks as a client does; what is logged of it is the answer. */
  const ask = (watchId: number) =>
    Effect.gen(function* () {
      const answer = Effect.tap(watches.watch(watchId, paths), ({ watching }) =>
        Effect.sync(() => log.push(`watching ${watching}`))
      )
      const fiber = yield* Effect.fork(answer)
      fiber.addObserver(() => log.push("answered"))
      yield* settle
      return fiber
    })
  return { watches, log, changes, ask }
}

const told = (watchId: number) => `fs/missingChanged {"watchId":${watchId}}`

it.effect("a change is told once, and ends the watch before it is told", () =>
  Effect.gen(function* () {
    const { log, changes, ask } = bench()
    yield* ask(1)
    assert.deepStrictEqual(log.splice(0), ["begin 1", "watching true", "answered"])
    changes[0]?.()
    assert.deepStrictEqual(log.splice(0), ["end 1", told(1)])
    changes[0]?.()
    assert.deepStrictEqual(log, [])
  })
)

it.effect("a new watch ends the one before, whose changes are not told any more", () =>
  Effect.gen(function* () {
    const { log, changes, ask } = bench()
    yield* ask(1)
    yield* ask(3)
    assert.deepStrictEqual(log.splice(0).slice(3), ["end 1", "begin 2", "watching true", "answered"])
    changes[0]?.()
    assert.deepStrictEqual(log, [])
    changes[1]?.()
    assert.deepStrictEqual(log, ["end 2", told(3)])
  })
)

it.effect("an id that is not above the last is refused, and leaves the watch there is", () =>
  Effect.gen(function* () {
    const { log, changes, ask } = bench()
    yield* ask(2)
    log.length = 0
    for (const watchId of [2, 1]) {
      yield* ask(watchId)
      assert.deepStrictEqual(log.splice(0), ["watching false", "answered"])
    }
    changes[0]?.()
    assert.deepStrictEqual(log.splice(0), ["end 1", told(2)])
    yield* ask(2)
    assert.deepStrictEqual(log, ["watching false", "answered"], "also when it is over")
  })
)

it.effect("a change before the answer is told after it", () =>
  Effect.gen(function* () {
    const { watches, log, changes } = bench()
    const asked = Effect.tap(watches.watch(1, paths), () => Effect.sync(() => changes[0]?.()))
    const fiber = yield* Effect.fork(asked)
    fiber.addObserver(() => log.push("answered"))
    yield* settle
    assert.deepStrictEqual(log, ["begin 1", "answered", "end 1", told(1)])
  })
)

it.effect("what changes while a watch begins is its answer, and is not told besides", () =>
  Effect.gen(function* () {
    const { log, changes, ask } = bench((change) => Effect.as(Effect.sync(change), true))
    yield* ask(1)
    changes[0]?.()
    assert.deepStrictEqual(log, ["begin 1", "end 1", "watching false", "answered"])
  })
)

it.effect("what cannot be watched is not held", () =>
  Effect.gen(function* () {
    const { log, changes, ask } = bench(() => Effect.succeed(false))
    yield* ask(1)
    changes[0]?.()
    assert.deepStrictEqual(log, ["begin 1", "end 1", "watching false", "answered"])
    const without = new MissingWatches(undefined, () => assert.fail("nothing is to be told"))
    assert.deepStrictEqual(yield* without.watch(1, paths), { watching: false })
    yield* without.end
  })
)

it.effect("a watch that begins when another takes its place is over, and its client learns it", () =>
  Effect.gen(function* () {
    let go = () => {}
    const slow = Effect.async<boolean>((resume) => {
      go = () => resume(Effect.succeed(true))
    })
    const begins = [slow, Effect.succeed(true)]
    const { log, changes, ask } = bench(() => begins.shift() ?? Effect.succeed(false))
    const first = yield* ask(1)
    const second = yield* ask(2)
    assert.deepStrictEqual(yield* Fiber.join(second), { watching: true })
    go()
    assert.deepStrictEqual(yield* Fiber.join(first), { watching: false })
    yield* settle
    log.length = 0
    changes[0]?.()
    assert.deepStrictEqual(log, [])
    changes[1]?.()
    assert.deepStrictEqual(log, ["end 2", told(2)])
  })
)

it.effect("the end of the connection ends the watch, and nothing is told after it", () =>
  Effect.gen(function* () {
    const { watches, log, changes, ask } = bench()
    yield* ask(1)
    log.length = 0
    yield* watches.end
    assert.deepStrictEqual(log.splice(0), ["end 1"])
    changes[0]?.()
    yield* watches.end
    assert.deepStrictEqual(log, [])
  })
)
