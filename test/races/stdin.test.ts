import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { ExitStatus } from "../../src/spawn/Child.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import type { Connector } from "../../src/transport/Memory.js"
import { serverLayer, settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

type Server = Connector | FakeSpawner | Scope.Scope

/** Ten bytes fill the queue, and the child reads nothing by itself. */
const test = (title: string, body: Effect.Effect<unknown, unknown, Server>) =>
  it.scoped(title, () =>
    body.pipe(Effect.provide(serverLayer({ holdWrites: true }, { stdinQueueBytesPerProcess: 10 })))
  )

const post = (client: TestClient, text: string, writeId?: string) =>
  client.post("process/write", { processId: "p", chunk: Buffer.from(text).toString("base64"), writeId })

const full = "0123456789"

/** A client whose process `p` has a full queue of input. */
const withFullQueue = Effect.gen(function* () {
  const client = yield* memoryClient
  const { sessionId } = yield* client.handshake()
  yield* client.start("p", ["program"], { pipeStdin: true })
  yield* settle
  const child = yield* (yield* FakeSpawner).child(0)
  assert.strictEqual((yield* client.reply(post(client, full))).result.status, "accepted")
  return { client, sessionId, child }
})

const isAnswered = (client: TestClient, id: number) => client.messages.some((message) => message.id === id)

const reconnect = (old: TestClient, sessionId: string) =>
  Effect.gen(function* () {
    old.carrier.close()
    yield* old.ended()
    yield* settle
    const client = yield* memoryClient
    client.knows("p")
    yield* client.resume(sessionId)
    return client
  })

const status = (client: TestClient, id: number) => Effect.map(client.reply(id), ({ result }) => result.status as string)

describe("a write that waits for room", () => {
  test(
    "when the child exits, is refused",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const first = post(client, "abc")
      const second = post(client, "def")
      yield* settle
      assert.isFalse(isAnswered(client, first) || isAnswered(client, second))
      child.exit(ExitStatus.Exited({ code: 0 }))
      assert.strictEqual(yield* status(client, first), "stdinClosed")
      assert.strictEqual(yield* status(client, second), "stdinClosed")
      assert.strictEqual(child.written, full)
      child.endOutput()
    })
  )

  test(
    "when the child closes its stdin, is refused",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const write = post(client, "abc")
      yield* settle
      child.closeStdin()
      assert.strictEqual(yield* status(client, write), "stdinClosed")
      assert.strictEqual(yield* status(client, post(client, "def")), "stdinClosed")
      assert.strictEqual(child.written, full)
    })
  )

  test(
    "when room comes and the child exits in the same turn, is one or the other and never both",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const write = post(client, "abc")
      yield* settle
      child.completeWrites()
      child.finish(0)
      const outcome = yield* status(client, write)
      assert.strictEqual(child.written, outcome === "accepted" ? `${full}abc` : full)
    })
  )

  test(
    "whose client goes away and repeats it by its writeId, is applied once",
    Effect.gen(function* () {
      const { client: old, sessionId, child } = yield* withFullQueue
      post(old, "abc", "w")
      yield* settle
      const client = yield* reconnect(old, sessionId)
      const again = post(client, "abc", "w")
      yield* settle
      child.completeWrites()
      assert.strictEqual(yield* status(client, again), "accepted")
      child.completeWrites()
      yield* settle
      assert.strictEqual(child.written, `${full}abc`)
    })
  )

  test(
    "which gets its room just before its client goes away, and is repeated by its writeId, is applied once",
    Effect.gen(function* () {
      const { client: old, sessionId, child } = yield* withFullQueue
      post(old, "abc", "w")
      yield* settle
      child.completeWrites()
      const client = yield* reconnect(old, sessionId)
      assert.strictEqual(yield* status(client, post(client, "abc", "w")), "accepted")
      child.completeWrites()
      yield* settle
      assert.strictEqual(child.written, `${full}abc`)
    })
  )

  test(
    "which gets its room in the turn in which its client goes away, and is repeated by its writeId, is applied once",
    Effect.gen(function* () {
      const { client: old, sessionId, child } = yield* withFullQueue
      post(old, "abc", "w")
      yield* settle
      old.carrier.close()
      child.completeWrites()
      const client = yield* reconnect(old, sessionId)
      assert.strictEqual(yield* status(client, post(client, "abc", "w")), "accepted")
      child.completeWrites()
      yield* settle
      assert.strictEqual(child.written, `${full}abc`)
    })
  )

  test(
    "repeated by its writeId on the same connection while it waits, is applied once and answered twice",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const first = post(client, "abc", "w")
      const again = post(client, "xyz", "w")
      yield* settle
      assert.isFalse(isAnswered(client, first) || isAnswered(client, again))
      child.completeWrites()
      assert.strictEqual(yield* status(client, first), "accepted")
      assert.strictEqual(yield* status(client, again), "accepted")
      child.completeWrites()
      yield* settle
      assert.strictEqual(child.written, `${full}abc`)
    })
  )

  test(
    "holds back neither a read nor a signal nor a terminate",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const write = post(client, "abc")
      const read = client.post("process/read", { processId: "p" })
      const signal = client.post("process/signal", { processId: "p", signal: "SIGWINCH" })
      yield* client.reply(read)
      yield* client.reply(signal)
      assert.isFalse(isAnswered(client, write))
      assert.deepStrictEqual(yield* client.ask("process/terminate", { processId: "p" }), { running: true })
      assert.strictEqual(yield* status(client, write), "stdinClosed")
      assert.deepStrictEqual(child.signals, [
        ["SIGWINCH", "group"],
        ["SIGKILL", "tree"]
      ])
    })
  )

  test(
    "is not overtaken by a smaller one for which there would be room",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      child.completeWrites()
      yield* client.reply(post(client, "01234"))
      const large = post(client, "abcdefgh")
      const small = post(client, "x")
      yield* settle
      assert.isFalse(isAnswered(client, large) || isAnswered(client, small))
      child.completeWrites()
      yield* client.reply(small)
      assert.strictEqual(child.written, `${full}01234abcdefghx`)
    })
  )
})

describe("closeStdin behind a write that waits for room", () => {
  test(
    "is answered at once, and ends stdin after that write",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const write = post(client, "abc")
      assert.deepStrictEqual(yield* client.ask("process/closeStdin", { processId: "p" }), {})
      assert.deepStrictEqual(yield* client.ask("process/closeStdin", { processId: "p" }), {})
      assert.isFalse(isAnswered(client, write) || child.stdinEnded)
      const late = post(client, "late")
      assert.strictEqual(yield* status(client, late), "stdinClosed")
      child.completeWrites()
      assert.strictEqual(yield* status(client, write), "accepted")
      assert.strictEqual(child.written, `${full}abc`)
      assert.strictEqual(child.stdinEnds, 1)
    })
  )

  test(
    "and the child's exit: the write is refused, and nothing is ended",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const write = post(client, "abc")
      yield* client.ask("process/closeStdin", { processId: "p" })
      child.finish(0)
      assert.strictEqual(yield* status(client, write), "stdinClosed")
      yield* settle
      assert.strictEqual(child.written, full)
      assert.isFalse(child.stdinEnded)
    })
  )

  test(
    "whose client goes away: stdin still ends, and not before what was accepted",
    Effect.gen(function* () {
      const { client, sessionId, child } = yield* withFullQueue
      post(client, "abc")
      yield* client.ask("process/closeStdin", { processId: "p" })
      const next = yield* reconnect(client, sessionId)
      assert.strictEqual(yield* status(next, post(next, "more")), "stdinClosed")
      child.completeWrites()
      yield* settle
      child.completeWrites()
      yield* settle
      assert.isTrue(child.stdinEnded)
      assert.include([full, `${full}abc`], child.written)
    })
  )
})

describe("many writers", () => {
  test(
    "of a queue without room: every accepted write is applied once, in the order of the requests",
    Effect.gen(function* () {
      const { client, child } = yield* withFullQueue
      const texts = Array.from({ length: 200 }, (_, i) => `<${i}>`)
      const ids = texts.map((text, i) => post(client, text, `w${i}`))
      const reading = yield* Effect.fork(
        Effect.forever(
          Effect.zipRight(
            settle,
            Effect.sync(() => child.completeWrites(1))
          )
        )
      )
      for (const id of ids) assert.strictEqual(yield* status(client, id), "accepted")
      yield* Fiber.interrupt(reading)
      assert.strictEqual(child.written, full + texts.join(""))
    })
  )
})
