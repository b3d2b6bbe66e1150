/** One connection, on a peer that the test plays: what it reads, what it is sent, and how it ends. */
import { Buffer } from "node:buffer"
import { readdirSync, readlinkSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Admission from "../../src/session/Admission.js"
import type { Handlers } from "../../src/session/Handlers.js"
import { highWaterBytes, type Peer } from "../../src/session/Peer.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import type { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import { fill, settle } from "../support/fake.js"
import { directory } from "../support/files.js"
import { type FakePeer, type Served, served } from "../support/peer.js"
import { eventually } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"
import { type Json, startParams } from "../support/TestClient.js"

const test = (
  title: string,
  body: (bench: Served) => Effect.Effect<unknown, unknown, Scope.Scope | FakeSpawner | SessionRegistry | Handlers>,
  more: Partial<Peer> = {}
) => it.scoped(title, () => Effect.flatMap(served(more), body).pipe(Effect.provide(registryLayer())))

/** Whether this process has a file open. */
const isOpen = (path: string) =>
  readdirSync("/proc/self/fd").some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false
    }
  })

/** Connections that are counted as open. */
const connections = () => {
  const found = Metric.unsafeSnapshot().find(({ metricKey }) => metricKey.name === "exec_server_connections")
  return Number((found?.metricState as unknown as { readonly value: number } | undefined)?.value)
}

/** A process that runs, and a request that waits for its end. */
const running = (peer: FakePeer) =>
  Effect.gen(function* () {
    peer.handshake()
    peer.post("process/start", startParams("p", ["program"]))
    yield* settle
  })

const wait = { processId: "p", until: "closed", waitMs: 60_000 }

describe("a session whose client has another connection", () => {
  /** A peer that is there or not, and how often that was asked. */
  const probed = (isAlive: boolean) => {
    let count = 0
    const probe = (onAnswer: (isAlive: boolean) => void) => {
      count++
      onAnswer(isAlive)
    }
    return { probe, count: () => count }
  }

  /** Tries to resume the session of a peer from another connection; gives the answer. */
  const resumed = (peer: FakePeer, more: Partial<Peer> = {}) =>
    Effect.gen(function* () {
      const other = yield* served(more)
      const id = other.peer.post("initialize", { clientName: "b", resumeSessionId: peer.reply(1).result.sessionId })
      yield* settle
      return other.peer.reply(id)
    })

  test(
    "is given to it if the first does not answer",
    ({ peer, serving }) =>
      Effect.gen(function* () {
        peer.handshake()
        const answer = yield* resumed(peer)
        assert.strictEqual(answer.result?.sessionId, peer.reply(1).result.sessionId)
        const reason = "the client has resumed the session on another connection"
        assert.deepStrictEqual(peer.ending, { code: 1008, reason })
        yield* Fiber.join(serving)
      }),
    { probe: probed(false).probe }
  )

  test(
    "stays where it is if the first answers",
    ({ peer }) =>
      Effect.gen(function* () {
        peer.handshake()
        assert.strictEqual((yield* resumed(peer)).error.code, -32010)
        assert.isUndefined(peer.ending)
      }),
    { probe: probed(true).probe }
  )

  for (const [title, params, more] of [
    ["is not asked about for another subject", { resumeSessionId: null }, { grant: { id: "bob" } }],
    ["is not asked about if it would end with the first", {}, {}]
  ] as const) {
    const asked = probed(false)
    test(
      title,
      ({ peer }) =>
        Effect.gen(function* () {
          peer.handshake(params)
          assert.isDefined((yield* resumed(peer, more)).error)
          assert.strictEqual(asked.count(), 0)
          assert.isUndefined(peer.ending)
        }),
      { probe: asked.probe }
    )
  }
})

describe("requests in flight", () => {
  test("are as many as the limit; the peer is not read beyond it, and the next one is served after an answer", ({
    peer,
    fake
  }) =>
    Effect.gen(function* () {
      yield* running(peer)
      for (let i = 0; i < Admission.limits.maxInFlight; i++) peer.post("process/wait", wait)
      assert.isTrue(peer.isRead)
      const beyond = peer.post("environment/status")
      assert.isUndefined(peer.reply(beyond))
      assert.isFalse(peer.isRead)
      const child = yield* fake.child(0)
      child.finish(0)
      yield* settle
      assert.deepStrictEqual(peer.reply(beyond).result, { status: "ready" })
      assert.isTrue(peer.isRead)
    }))

  test("hold no more characters than the limit", ({ peer, fake }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const padding = "x".repeat(Admission.limits.maxSize / 2)
      for (let i = 0; i < 2; i++) peer.post("process/wait", { ...wait, padding })
      const beyond = peer.post("environment/status")
      assert.isUndefined(peer.reply(beyond))
      assert.isFalse(peer.isRead)
      const child = yield* fake.child(0)
      child.finish(0)
      yield* settle
      assert.isDefined(peer.reply(beyond).result)
    }))
})

describe("a peer that takes nothing", () => {
  test("gets no large answer, and small ones pass, until it has taken what it was sent", ({ peer }) =>
    Effect.gen(function* () {
      yield* running(peer)
      peer.buffered = highWaterBytes + 1
      const large = [
        peer.post("process/read", { processId: "p" }),
        peer.post("process/snapshot", { processId: "p" }),
        peer.post("process/list")
      ]
      const small = peer.post("environment/status")
      assert.isDefined(peer.reply(small).result)
      for (const id of large) assert.isUndefined(peer.reply(id))
      peer.drain()
      yield* settle
      for (const id of large) assert.isDefined(peer.reply(id).result)
    }))

  test("with less than the high-water mark gets all answers", ({ peer }) =>
    Effect.gen(function* () {
      yield* running(peer)
      peer.buffered = highWaterBytes
      assert.isDefined(peer.reply(peer.post("process/list")).result)
    }))

  test("gets not even small answers, and is not read, once it is four times as far behind", ({ peer }) =>
    Effect.gen(function* () {
      yield* running(peer)
      peer.buffered = 4 * highWaterBytes
      assert.isDefined(peer.reply(peer.post("environment/status")).result)
      peer.buffered++
      const beyond = peer.post("environment/status")
      assert.isUndefined(peer.reply(beyond))
      assert.isFalse(peer.isRead)
      peer.drain()
      assert.isDefined(peer.reply(beyond).result)
      assert.isTrue(peer.isRead)
    }))

  test("holds up its processes until it has taken enough", ({ peer, fake }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const child = yield* fake.child(0)
      peer.buffered = 2 * highWaterBytes
      child.emit("stdout", "x")
      assert.isTrue(child.paused)
      peer.drain()
      assert.isFalse(child.paused)
    }))

  test("and says it has space while it has none holds them up on", ({ peer, fake }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const child = yield* fake.child(0)
      peer.buffered = 2 * highWaterBytes
      child.emit("stdout", fill(10))
      const drained = peer.buffered
      peer.drain()
      peer.buffered = drained
      child.emit("stdout", fill(10))
      assert.isTrue(child.paused)
    }))

  test("and has taken some of it, but not enough, holds them up on", ({ peer, fake }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const child = yield* fake.child(0)
      peer.buffered = 4 * highWaterBytes
      child.emit("stdout", "x")
      peer.drain(highWaterBytes + 1)
      assert.isTrue(child.paused)
      peer.drain(highWaterBytes)
      assert.isFalse(child.paused)
    }))

  test("is refused an unknown method by its name all the same", ({ peer }) =>
    Effect.sync(() => {
      peer.buffered = highWaterBytes + 1
      assert.strictEqual(peer.reply(peer.post("nope")).error.message, "unknown method: nope")
    }))

  test("gets no file before that either, though other requests on files pass", ({ peer }) =>
    Effect.gen(function* () {
      peer.handshake()
      peer.buffered = highWaterBytes + 1
      const path = import.meta.url
      const reading = peer.post("fs/readFile", { path })
      const asking = peer.post("fs/getMetadata", { path })
      yield* eventually("the other one is answered", () => peer.reply(asking) !== undefined)
      yield* settle
      assert.isUndefined(peer.reply(reading))
      peer.drain()
      yield* eventually("the file came", () => peer.reply(reading) !== undefined)
      assert.isDefined(peer.reply(reading).result)
    }))
})

test("large files are read one after the other, the next one when the last one has left", ({ peer }) =>
  Effect.gen(function* () {
    const dir = yield* directory
    writeFileSync(`${dir}/large`, fill(3_000_000))
    peer.handshake()
    const reading = [1, 2, 3].map(() => peer.post("fs/readFile", { path: `file://${dir}/large` }))
    yield* eventually("all have come", () => reading.every((id) => peer.reply(id) !== undefined))
    for (const id of reading) assert.lengthOf(peer.reply(id).result.dataBase64, 4_000_000)
  }))

it.scoped("a file is read for an answer only when the large answer before it has left", () =>
  Effect.gen(function* () {
    let parts = 0
    const { peer } = yield* served({
      // The peer takes the first part slowly, and all others at once.
      sendPart: () => {
        if (++parts === 1) peer.buffered = highWaterBytes + 1
      }
    })
    peer.handshake()
    peer.post("fs/readFile", { path: "file:///large" })
    yield* eventually("the large answer is on its way", () => parts === 1)
    // Some of it has left. A transport tells of that only when everything has.
    peer.buffered = highWaterBytes
    const reading = peer.post("fs/readFile", { path: "file:///small" })
    yield* settle
    const { peer: other } = yield* served({})
    other.handshake()
    const dataBase64 = Buffer.from("new").toString("base64")
    const writing = other.post("fs/writeFile", { path: "file:///small", dataBase64 })
    yield* settle
    assert.deepStrictEqual(other.reply(writing)?.result, {})
    peer.drain()
    yield* eventually("the file came", () => peer.reply(reading) !== undefined)
    assert.deepStrictEqual(peer.reply(reading).result, { dataBase64 })
  }).pipe(
    Effect.provide(registryLayer({}, { files: MemoryFileSystem.layer({ "/large": fill(3_000_000), "/small": "old" }) }))
  )
)

test("what a connection watches for is told on it", ({ peer }) =>
  Effect.gen(function* () {
    const dir = yield* directory
    peer.handshake()
    const watching = peer.post("fs/watchMissing", { watchId: 1, missing: [`file://${dir}/new`] })
    yield* eventually("it watches", () => peer.reply(watching) !== undefined)
    writeFileSync(`${dir}/new`, "")
    const told = () => peer.sent.filter(({ method }) => method === "fs/missingChanged")
    yield* eventually("it is told", () => told().length > 0)
    assert.deepStrictEqual(told(), [{ method: "fs/missingChanged", params: { watchId: 1 } }])
  }))

describe("output", () => {
  const frames: Array<Buffer> = []
  const sendBinary = (bytes: Buffer) => void frames.push(Buffer.from(bytes))
  for (const [what, more, isBinary] of [
    ["binary frames where they are asked for and can be sent", { sendBinary }, true],
    ["text where the peer takes no other", {}, false]
  ] as const) {
    test(
      `comes in ${what}`,
      ({ peer, fake }) =>
        Effect.gen(function* () {
          frames.length = 0
          peer.handshake({ capabilities: { binaryOutput: true } })
          peer.post("process/start", startParams("p", ["program"]))
          yield* settle
          assert.deepStrictEqual(peer.reply(1).result.capabilities, isBinary ? { binaryOutput: true } : {})
          const child = yield* fake.child(0)
          child.emit("stdout", "x")
          assert.lengthOf(frames, isBinary ? 1 : 0)
          assert.strictEqual(
            peer.sent.some(({ method }) => method === "process/output"),
            !isBinary
          )
        }),
      more
    )
  }
})

describe("what is no request", () => {
  test("is answered as malformed, with the name of the transport, and the connection goes on", ({ peer }) =>
    Effect.sync(() => {
      peer.raw("nope")
      peer.malformed("too long")
      assert.lengthOf(peer.sent, 2)
      for (const { id, error } of peer.sent) {
        assert.strictEqual(id, -1)
        assert.strictEqual(error.code, -32600)
        assert.match(error.message, /^failed to parse JSON-RPC message from fake: /)
      }
      assert.isTrue(peer.sent[1].error.message.endsWith(": too long"))
      assert.isUndefined(peer.ending)
      peer.handshake()
      assert.isDefined(peer.reply(1).result)
    }))

  for (const [what, text, reason] of [
    ["a notification that is unknown", '{"method":"nope"}', "unexpected notification method: nope"],
    ["an answer", '{"id":7,"result":{}}', "unexpected client response for request id 7"],
    [
      "`initialized` before `initialize`",
      '{"method":"initialized"}',
      "received `initialized` notification before `initialize`"
    ]
  ] as const) {
    test(`${what} ends the connection with 1002, and nothing is served after it`, ({ peer, serving }) =>
      Effect.gen(function* () {
        peer.raw(text)
        peer.post("initialize", { clientName: "test" })
        assert.deepStrictEqual(peer.ending, { code: 1002, reason })
        yield* Fiber.join(serving)
        assert.strictEqual(peer.closes, 1)
        assert.isUndefined(peer.reply(1)?.result)
      }))
  }

  test("`initialized` a second time changes nothing", ({ peer, fake }) =>
    Effect.gen(function* () {
      yield* running(peer)
      peer.raw('{"method":"initialized"}')
      assert.isUndefined(peer.ending)
      const child = yield* fake.child(0)
      child.emit("stdout", "once")
      assert.lengthOf(
        peer.sent.filter(({ method }) => method === "process/output"),
        1
      )
    }))
})

describe("a request", () => {
  test("of an unknown method is refused with its name", ({ peer }) =>
    Effect.sync(() => {
      const { error } = peer.reply(peer.post("nope"))
      assert.deepStrictEqual(error, { code: -32601, message: "unknown method: nope" })
    }))

  test("with parameters of the wrong kind is refused as such, and counts no more", ({ peer }) =>
    Effect.gen(function* () {
      yield* running(peer)
      for (let i = 0; i <= Admission.limits.maxInFlight; i++) {
        const { error } = peer.reply(peer.post("process/wait", { processId: 1 }))
        assert.strictEqual(error.code, -32602)
        peer.sent.pop()
      }
      assert.isTrue(peer.isRead)
    }))
})

{
  const sent: Array<Json> = []
  test(
    "a request whose answer cannot be sent fails, once, and the next one is answered",
    ({ peer }) =>
      Effect.gen(function* () {
        peer.handshake()
        const failing = peer.post("environment/status")
        peer.post("unsendable")
        const next = peer.post("nope")
        yield* settle
        assert.deepStrictEqual(
          sent.slice(1).map(({ id, error }) => [id, error?.code]),
          [
            [failing, -32603],
            [-1, -32600],
            [next, -32601]
          ]
        )
      }),
    {
      send: (text) => {
        const message: Json = JSON.parse(text)
        if (message.result?.status === "ready" || message.error?.message.includes("unsendable"))
          throw new Error("it cannot be sent")
        sent.push(message)
      }
    }
  )
}

describe("a request that waits for what ends under it", () => {
  test("is told so, before the end of the server ends its connection", ({ peer, fake }) =>
    Effect.gen(function* () {
      peer.handshake()
      const gate = yield* Deferred.make<void>()
      fake.next({ before: Deferred.await(gate) })
      peer.post("process/start", startParams("p", ["program"]))
      const id = peer.post("process/write", { processId: "p", chunk: "" })
      yield* settle
      const registry = yield* SessionRegistry
      const ending = yield* Effect.fork(registry.end(0))
      for (let second = 0; second < 2; second++) {
        yield* settle
        yield* TestClock.adjust("1 second")
      }
      yield* Fiber.join(ending)
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(peer.reply(id)?.error, { code: -32603, message: "the request was interrupted" })
      assert.deepStrictEqual(peer.ending, { code: 1001, reason: "the server is shutting down" })
    }))
})

describe("the handshake", () => {
  test("that does not come in time ends the connection with 1008", ({ peer, serving }) =>
    Effect.gen(function* () {
      peer.post("initialize", { clientName: "test" })
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(peer.ending)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(peer.ending, { code: 1008, reason: "no `initialized` within handshakeTimeoutMs (10000)" })
      yield* Fiber.join(serving)
    }))

  test(
    "is no longer than the credential lasts, which ends a connection that has finished it; its session is detached",
    ({ peer, serving }) =>
      Effect.gen(function* () {
        peer.handshake()
        const { sessionId } = peer.reply(1).result
        yield* TestClock.adjust("9 hours")
        assert.isUndefined(peer.ending)
        yield* TestClock.adjust("1 hour")
        const reason = "the token has expired; connect again with a new one"
        assert.deepStrictEqual(peer.ending, { code: 1008, reason })
        yield* Fiber.join(serving)
        const again = yield* served({})
        again.peer.handshake({ resumeSessionId: sessionId })
        yield* settle
        assert.strictEqual(again.peer.reply(1).result.sessionId, sessionId)
      }),
    { grant: { id: "fake", expiresAtMs: 36_000_000 } }
  )

  test("that came in time leaves the connection alone afterwards", ({ peer }) =>
    Effect.gen(function* () {
      peer.handshake()
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(peer.ending)
    }))

  test(
    "has no time limit where the end of the connection is the end of the server",
    ({ peer }) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(peer.ending)
        peer.handshake()
        assert.isDefined(peer.reply(1).result)
        assert.lengthOf(peer.sent, 1, "and `initialized` is answered by nothing")
      }),
    { resumable: false }
  )
})

/** Another connection tries to take the session up. */
const resumed = (sessionId: string) =>
  Effect.gen(function* () {
    const { peer } = yield* served({})
    return peer.reply(peer.post("initialize", { clientName: "test", resumeSessionId: sessionId }))
  })

describe("the end of the connection", () => {
  test("is the end of what waits for it: nobody is answered", ({ peer, serving }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const waiting = peer.post("process/wait", wait)
      peer.end()
      yield* Fiber.join(serving)
      assert.isUndefined(peer.reply(waiting))
      assert.isUndefined(peer.ending)
    }))

  test("leaves its session to be taken up again, its processes running", ({ peer, fake, serving }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const { sessionId } = peer.reply(1).result
      peer.end()
      yield* Fiber.join(serving)
      const child = yield* fake.child(0)
      assert.isFalse(child.exited)
      assert.strictEqual((yield* resumed(sessionId)).result.sessionId, sessionId)
    }))

  for (const [what, params, more] of [
    ["of a client of the first generation", {}, {}],
    ["on a transport that has only one", { resumeSessionId: null }, { resumable: false }]
  ] as const) {
    test(
      `${what} ends its processes at once`,
      ({ peer, fake, serving }) =>
        Effect.gen(function* () {
          peer.handshake(params)
          peer.post("process/start", startParams("p", ["program"]))
          yield* settle
          const { sessionId } = peer.reply(1).result
          peer.end()
          yield* Fiber.join(serving)
          assert.isTrue((yield* fake.child(0)).exited)
          assert.strictEqual((yield* resumed(sessionId)).error.code, -32600)
        }),
      more
    )
  }

  test("comes after what was received: a start that waited behind a congested peer is carried out", ({
    peer,
    fake,
    serving
  }) =>
    Effect.gen(function* () {
      yield* running(peer)
      peer.buffered = 5 * highWaterBytes
      peer.post("process/start", startParams("late", ["program"]))
      assert.lengthOf(fake.children, 1)
      peer.end()
      yield* Fiber.join(serving)
      assert.lengthOf(fake.children, 2)
    }))

  test("closes the files that it had open", ({ peer, serving }) =>
    Effect.gen(function* () {
      peer.handshake()
      const opening = peer.post("fs/open", { handleId: "h", path: import.meta.url })
      yield* eventually("it is open", () => peer.reply(opening)?.result !== undefined)
      assert.isTrue(isOpen(fileURLToPath(import.meta.url)))
      peer.end()
      yield* Fiber.join(serving)
      yield* eventually("it is closed", () => !isOpen(fileURLToPath(import.meta.url)))
    }))

  test("is counted", ({ peer, serving }) =>
    Effect.gen(function* () {
      const open = connections()
      const { peer: other, serving: others } = yield* served({})
      assert.strictEqual(connections(), open + 1)
      other.end()
      yield* Fiber.join(others)
      assert.strictEqual(connections(), open)
      peer.end()
      yield* Fiber.join(serving)
      assert.strictEqual(connections(), open - 1)
    }))

  test("when the server shuts down is told with 1001, once", ({ peer, serving }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const waiting = peer.post("process/wait", wait)
      yield* Fiber.interrupt(serving)
      assert.deepStrictEqual(peer.ending, { code: 1001, reason: "the server is shutting down" })
      assert.strictEqual(peer.closes, 1)
      assert.isUndefined(peer.reply(waiting))
    }))

  test("frees what was being sent: its processes are read again, and it is told nothing more", ({
    peer,
    fake,
    serving
  }) =>
    Effect.gen(function* () {
      yield* running(peer)
      const child = yield* fake.child(0)
      peer.buffered = 2 * highWaterBytes
      child.emit("stdout", Buffer.from("x"))
      assert.isTrue(child.paused)
      const before = peer.sent.length
      peer.end()
      yield* Fiber.join(serving)
      assert.isFalse(child.paused)
      child.emit("stdout", "more")
      assert.lengthOf(peer.sent, before)
    }))
})
