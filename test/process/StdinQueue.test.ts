import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as StdinQueue from "../../src/process/StdinQueue.js"
import { bytes, settle } from "../support/fake.js"

/** A queue into a sink that the test empties. */
const make = (limit = 10) => {
  const log: Array<string> = []
  const pending: Array<() => void> = []
  const queue = StdinQueue.make(
    {
      write: (chunk, done) => {
        log.push(chunk.toString())
        pending.push(done)
      },
      endStdin: () => log.push("end")
    },
    limit
  )
  const write = (text: string, writeId?: string) => queue.write(bytes(text), writeId)
  const take = (count = pending.length) => {
    for (const done of pending.splice(0, count)) done()
  }
  /** A write that is expected to wait. */
  const wait = (text: string, writeId?: string) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.fork(write(text, writeId))
      yield* settle
      assert.isNull(fiber.unsafePoll())
      return fiber
    })
  return { queue, log, write, wait, take }
}

describe("writes", () => {
  it.effect("pass at once while there is room, also up to the last byte", () =>
    Effect.gen(function* () {
      const { write, log, wait, take } = make()
      assert.strictEqual(yield* write("12345"), "accepted")
      assert.strictEqual(yield* write("67890"), "accepted")
      const waiting = yield* wait("x")
      assert.deepStrictEqual(log, ["12345", "67890"])
      take(1)
      assert.strictEqual(yield* Fiber.join(waiting), "accepted")
      assert.deepStrictEqual(log, ["12345", "67890", "x"])
    })
  )

  it.effect("one that is larger than the queue passes when the queue is empty", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      assert.strictEqual(yield* write("x".repeat(100)), "accepted")
      const second = yield* wait("y".repeat(50))
      take()
      assert.strictEqual(yield* Fiber.join(second), "accepted")
      assert.lengthOf(log, 2)
    })
  )

  it.effect("an empty one is accepted and does nothing, also where there is no room", () =>
    Effect.gen(function* () {
      const { write, log } = make()
      assert.strictEqual(yield* write(""), "accepted")
      yield* write("0123456789")
      assert.strictEqual(yield* write(""), "accepted")
      assert.deepStrictEqual(log, ["0123456789"])
    })
  )

  it.effect("take their places when they are made, and are admitted in that order", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      const fibers = [yield* wait("a"), yield* wait("bbbbbbbbbb"), yield* wait("c")]
      take()
      assert.strictEqual(yield* Fiber.join(fibers[0] as Fiber.Fiber<string, unknown>), "accepted")
      yield* settle
      assert.isNull((fibers[2] as Fiber.RuntimeFiber<string>).unsafePoll())
      take()
      take()
      for (const fiber of fibers) assert.strictEqual(yield* Fiber.join(fiber), "accepted")
      assert.deepStrictEqual(log, ["0123456789", "a", "bbbbbbbbbb", "c"])
    })
  )

  it.effect("a small one does not overtake a large one that waits, though there is room for it", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("12345")
      const large = yield* wait("aaaaaaaa")
      const small = yield* wait("b")
      take()
      assert.strictEqual(yield* Fiber.join(large), "accepted")
      assert.strictEqual(yield* Fiber.join(small), "accepted")
      assert.deepStrictEqual(log, ["12345", "aaaaaaaa", "b"])
    })
  )

  it.effect("one whose client is gone while it waits is carried out in its place, and holds up nobody", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      const given = yield* wait("gone")
      const next = yield* wait("next")
      yield* Fiber.interrupt(given)
      take()
      assert.strictEqual(yield* Fiber.join(next), "accepted")
      assert.deepStrictEqual(log, ["0123456789", "gone", "next"])
    })
  )

  it.effect("of those whose clients are gone no more than the limit wait", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      for (const text of ["aaaaaa", "bbbb", "c"]) yield* Fiber.interrupt(yield* wait(text))
      take()
      take()
      assert.deepStrictEqual(log, ["0123456789", "aaaaaa", "bbbb"])
    })
  )

  it.effect("those whose clients still wait take none of that room", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      const heard = yield* wait("0123456789")
      yield* Fiber.interrupt(yield* wait("gone"))
      take()
      assert.strictEqual(yield* Fiber.join(heard), "accepted")
      take()
      assert.deepStrictEqual(log, ["0123456789", "0123456789", "gone"])
    })
  )
})

describe("writeIds", () => {
  it.effect("a repeated one is accepted and changes nothing, whatever its bytes", () =>
    Effect.gen(function* () {
      const { write, log, take } = make()
      for (const text of ["one", "one", "other"]) assert.strictEqual(yield* write(text, "w"), "accepted")
      take()
      assert.strictEqual(yield* write("later", "w"), "accepted")
      assert.strictEqual(yield* write("two", "v"), "accepted")
      assert.deepStrictEqual(log, ["one", "two"])
    })
  )

  it.effect("one that was accepted is accepted again after the end, a new one is not", () =>
    Effect.gen(function* () {
      const { queue, write, log } = make()
      yield* write("one", "w")
      queue.end()
      assert.strictEqual(yield* write("one", "w"), "accepted")
      assert.strictEqual(yield* write("two", "v"), "stdinClosed")
      queue.close()
      assert.strictEqual(yield* write("one", "w"), "accepted")
      assert.deepStrictEqual(log, ["one", "end"])
    })
  )

  it.effect("at least 3000 are remembered", () =>
    Effect.gen(function* () {
      const { write, log } = make(1e6)
      for (let i = 0; i < 3000; i++) yield* write("x", `write-${i}`)
      for (let i = 0; i < 3000; i++) assert.strictEqual(yield* write("x", `write-${i}`), "accepted")
      assert.lengthOf(log, 3000)
    })
  )

  it("beyond 16384 the oldest is forgotten, and no other", () => {
    const ids = new StdinQueue.WriteIds()
    const add = (n: number) => ids.add(`write-${n}`)
    for (let n = 0; n < 16384; n++) add(n)
    assert.isTrue(ids.has("write-0"))
    add(16384)
    assert.deepStrictEqual(
      [0, 1, 16384].map((n) => ids.has(`write-${n}`)),
      [false, true, true]
    )
  })

  it("beyond 4 Mi characters of them the oldest are forgotten, as many as it takes", () => {
    const ids = new StdinQueue.WriteIds()
    const long = (start: string) => start.padEnd(2 ** 20, "-")
    for (const start of ["a", "b", "c", "d"]) ids.add(long(start))
    assert.isTrue(ids.has(long("a")))
    ids.add("short")
    const known = () => ["a", "b", "c", "d"].filter((start) => ids.has(long(start)))
    assert.deepStrictEqual(known(), ["b", "c", "d"])
    ids.add("x".repeat(2 * 2 ** 20))
    assert.deepStrictEqual(known(), ["d"])
    assert.isTrue(ids.has("short"))
  })

  it.effect("a retry of one whose client was gone while it waited joins it", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      yield* Fiber.interrupt(yield* wait("first", "w"))
      take()
      assert.strictEqual(yield* write("again", "w"), "accepted")
      assert.deepStrictEqual(log, ["0123456789", "first"])
    })
  )

  it.effect("two that wait with ids of their own are both written", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      yield* wait("first", "a")
      yield* wait("second", "b")
      take()
      take()
      assert.deepStrictEqual(log, ["0123456789", "first", "second"])
    })
  )

  it.effect("one of two who wait for the same one may give up", () =>
    Effect.gen(function* () {
      const { write, wait, take, log } = make()
      yield* write("0123456789")
      const first = yield* wait("abc", "w")
      const second = yield* wait("abc", "w")
      yield* Fiber.interrupt(first)
      take()
      assert.strictEqual(yield* Fiber.join(second), "accepted")
      assert.deepStrictEqual(log, ["0123456789", "abc"])
    })
  )

  it.effect("one that was refused is not remembered as accepted", () =>
    Effect.gen(function* () {
      const { queue, write, wait } = make()
      yield* write("0123456789")
      const waiting = yield* wait("abc", "w")
      queue.close()
      assert.strictEqual(yield* Fiber.join(waiting), "stdinClosed")
      assert.strictEqual(yield* write("abc", "w"), "stdinClosed")
    })
  )
})

describe("end and close", () => {
  it.effect("end comes after everything queued, once", () =>
    Effect.gen(function* () {
      const { queue, write, wait, take, log } = make()
      yield* write("0123456789")
      const waiting = yield* wait("abc")
      queue.end()
      queue.end()
      assert.notInclude(log, "end")
      assert.strictEqual(yield* write("late"), "stdinClosed")
      take()
      assert.strictEqual(yield* Fiber.join(waiting), "accepted")
      take()
      queue.end()
      assert.deepStrictEqual(log, ["0123456789", "abc", "end"])
    })
  )

  it.effect("end without anything queued ends at once", () =>
    Effect.sync(() => {
      const { queue, log } = make()
      queue.end()
      assert.deepStrictEqual(log, ["end"])
    })
  )

  it.effect("end behind a write whose client is gone comes after it", () =>
    Effect.gen(function* () {
      const { queue, write, wait, take, log } = make()
      yield* write("0123456789")
      const waiting = yield* wait("abc")
      queue.end()
      yield* Fiber.interrupt(waiting)
      take()
      assert.deepStrictEqual(log, ["0123456789", "abc", "end"])
    })
  )

  it.effect("close refuses what waits and what comes, and ends nothing any more", () =>
    Effect.gen(function* () {
      const { queue, write, wait, take, log } = make()
      yield* write("0123456789")
      const waiting = yield* wait("abc")
      queue.close()
      assert.strictEqual(yield* Fiber.join(waiting), "stdinClosed")
      assert.strictEqual(yield* write("late"), "stdinClosed")
      assert.strictEqual(yield* write(""), "stdinClosed")
      queue.end()
      queue.close()
      take()
      assert.deepStrictEqual(log, ["0123456789"])
    })
  )
})
