import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { AccessQueue, JointQueue, maxReaders } from "../../src/filesystem/AccessQueue.js"
import { settle } from "../support/fake.js"

/** A queue whose users say when they begin, and end when they are told to. */
const bench = Effect.gen(function* () {
  const queue = new AccessQueue()
  const scope = yield* Effect.scope
  const begun: Array<string> = []
  const ends = new Map<string, Deferred.Deferred<void, string>>()
  const use = (name: string) =>
    Effect.gen(function* () {
      begun.push(name)
      const end = yield* Deferred.make<void, string>()
      ends.set(name, end)
      yield* Deferred.await(end)
      return name
    })
  const start = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipLeft(Effect.fork(effect), settle)
  const read = (name: string) => start(queue.read(use(name)))
  const write = (name: string, owner: Scope.Scope = scope) => start(queue.write(use(name), owner))
  const finish = (name: string) =>
    Effect.zipLeft(
      Effect.suspend(() => Deferred.succeed(ends.get(name) as Deferred.Deferred<void, string>, undefined)),
      settle
    )
  const fail = (name: string) =>
    Effect.zipLeft(
      Effect.suspend(() => Deferred.fail(ends.get(name) as Deferred.Deferred<void, string>, "broken")),
      settle
    )
  return { begun, read, write, finish, fail }
})

it.scoped("readers overlap; a writer waits for those before it, and those behind it for the writer", () =>
  Effect.gen(function* () {
    const { begun, read, write, finish } = yield* bench
    yield* read("r1")
    yield* read("r2")
    yield* write("w1")
    yield* read("r3")
    yield* write("w2")
    assert.deepStrictEqual(begun, ["r1", "r2"])
    yield* finish("r2")
    assert.deepStrictEqual(begun, ["r1", "r2"])
    yield* finish("r1")
    assert.deepStrictEqual(begun, ["r1", "r2", "w1"])
    yield* read("r4")
    yield* finish("w1")
    assert.deepStrictEqual(begun, ["r1", "r2", "w1", "r3"], "r4 came after w2")
    yield* finish("r3")
    yield* finish("w2")
    assert.deepStrictEqual(begun, ["r1", "r2", "w1", "r3", "w2", "r4"])
  })
)

it.scoped("who is interrupted leaves the queue, waiting or not", () =>
  Effect.gen(function* () {
    const { begun, read, write, finish } = yield* bench
    yield* write("w1")
    const waiting = yield* read("r1")
    yield* read("r2")
    yield* Fiber.interrupt(waiting)
    yield* finish("w1")
    assert.deepStrictEqual(begun, ["w1", "r2"])
    const reading = yield* read("r3")
    yield* write("w2")
    yield* finish("r2")
    assert.notInclude(begun, "w2")
    yield* Fiber.interrupt(reading)
    yield* settle
    assert.include(begun, "w2")
  })
)

it.scoped("a writer goes on without whoever asked for it", () =>
  Effect.gen(function* () {
    const { begun, write, finish, read } = yield* bench
    const first = yield* write("w1")
    const second = yield* write("w2")
    yield* Fiber.interrupt(first)
    yield* Fiber.interrupt(second)
    yield* read("r")
    assert.deepStrictEqual(begun, ["w1"])
    yield* finish("w1")
    assert.deepStrictEqual(begun, ["w1", "w2"])
    yield* finish("w2")
    assert.deepStrictEqual(begun, ["w1", "w2", "r"])
  })
)

it.scoped("a writer ends with its owner, also before its turn", () =>
  Effect.gen(function* () {
    const { begun, write, finish, read } = yield* bench
    const owner = yield* Scope.make()
    yield* read("r1")
    yield* write("w1", owner)
    yield* write("w2", owner)
    yield* read("r2")
    yield* Scope.close(owner, Exit.void)
    yield* settle
    assert.deepStrictEqual(begun, ["r1", "r2"])
    yield* finish("r1")
    yield* finish("r2")
    yield* write("w3", owner)
    yield* read("r3")
    assert.deepStrictEqual(begun, ["r1", "r2", "r3"], "a place is given up where the owner is gone already")
  })
)

it.scoped("a failure is the caller's, and gives the place up", () =>
  Effect.gen(function* () {
    const { begun, write, read, fail, finish } = yield* bench
    const writer = yield* write("w")
    const reader = yield* read("r")
    yield* fail("w")
    assert.deepStrictEqual(yield* Fiber.await(writer), Exit.fail("broken"))
    yield* finish("r")
    assert.deepStrictEqual(yield* Fiber.join(reader), "r")
    assert.deepStrictEqual(begun, ["w", "r"])
  })
)

it.scoped("no more than so many read at a time", () =>
  Effect.gen(function* () {
    const { begun, read, finish } = yield* bench
    for (let i = 0; i < maxReaders + 3; i++) yield* read(`${i}`)
    assert.strictEqual(begun.length, maxReaders)
    yield* finish("3")
    assert.strictEqual(begun.length, maxReaders + 1)
  })
)

it.scoped("who takes a place in two queues runs when its turn has come in both, and keeps its place in each", () =>
  Effect.gen(function* () {
    const [one, other] = [new AccessQueue(), new AccessQueue()]
    const scope = yield* Effect.scope
    const begun: Array<string> = []
    const end = yield* Deferred.make<void>()
    const held = (name: string) =>
      Effect.zipRight(
        Effect.sync(() => begun.push(name)),
        Deferred.await(end)
      )
    const brief = (name: string) => Effect.sync(() => begun.push(name))
    const start = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipLeft(Effect.fork(effect), settle)
    yield* start(one.write(held("one"), scope))
    yield* start(new JointQueue(one, other).write(brief("both"), scope))
    const gone = yield* start(new JointQueue(other, one).read(brief("gone")))
    yield* start(other.read(brief("other")))
    assert.deepStrictEqual(begun, ["one"])
    yield* Fiber.interrupt(gone)
    yield* Deferred.succeed(end, undefined)
    yield* settle
    assert.deepStrictEqual(begun, ["one", "both", "other"])
  })
)
