/** Output that waits for the client to acknowledge it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { OutputWindow } from "../../src/session/OutputWindow.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { Random } from "../fuzz/Random.js"
import { serverLayer, settle } from "../support/fake.js"
import { connected, memoryClient, memoryLayer } from "../support/servers.js"

const kb = 1024

/** A client with a window of so many bytes, and its process. */
const started = (outputWindow: number, more: object = {}) =>
  Effect.gen(function* () {
    const client = yield* memoryClient
    client.capabilities = { outputWindow }
    const { capabilities } = yield* client.handshake()
    yield* client.start("p", ["program"], more)
    yield* settle
    const child = yield* (yield* FakeSpawner).child(0)
    const ack = (seq: number) =>
      Effect.zipRight(
        Effect.sync(() => client.raw(JSON.stringify({ method: "process/ack", params: { processId: "p", seq } }))),
        settle
      )
    return { client, capabilities, child, ack }
  })

describe("a window", () => {
  it("is full with its last byte, and not with the one before", () => {
    const window = new OutputWindow(100)
    window.add(1, 60)
    window.add(2, 39)
    assert.isFalse(window.isFull)
    window.add(3, 1)
    assert.isTrue(window.isFull)
    window.acknowledge(1)
    assert.isFalse(window.isFull)
  })

  it("takes acknowledgements that skip, repeat, go back, and run ahead", () => {
    const window = new OutputWindow(64)
    for (let seq = 1; seq <= 8; seq++) window.add(seq, 8)
    for (const seq of [0, 0]) window.acknowledge(seq)
    assert.isTrue(window.isFull)
    for (const seq of [5, 5, 2]) window.acknowledge(seq)
    assert.isFalse(window.isFull)
    for (let seq = 9; seq <= 13; seq++) window.add(seq, 8)
    assert.isTrue(window.isFull)
    window.acknowledge(1000)
    window.add(14, 63)
    assert.isFalse(window.isFull)
  })

  it("of whatever chunks, acknowledged however, never stands still and never holds more than a chunk beyond its size", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Random(seed)
      const limit = 16 * kb
      const window = new OutputWindow(limit)
      const largest = random.pick([1, 10, 1000, 65_536])
      // The client acknowledges each time that it has shown so much, and nothing in between.
      const step = random.pick([1, kb, limit / 4, limit / 2])
      let sent = 0
      let shown = 0
      let acknowledged = 0
      let last = 0
      const unshown: Array<number> = []
      for (let turn = 0; turn < 5000; turn++) {
        if (!window.isFull) {
          const length = 1 + random.below(largest)
          sent += length
          unshown.push(length)
          window.add(++last, length)
        }
        assert.isBelow(sent - acknowledged, limit + largest, `seed ${seed}`)
        if (random.below(2) === 0) shown += unshown.shift() ?? 0
        if (shown - acknowledged >= step) {
          acknowledged = shown
          window.acknowledge(last - unshown.length)
        }
        assert.isFalse(window.isFull && unshown.length === 0 && sent > acknowledged, `seed ${seed}: it stands still`)
      }
    }
  })
})

describe("a client with a window", () => {
  it.scoped("is granted what it asks for, within 16 KiB and 4 MiB", () =>
    Effect.gen(function* () {
      for (const [asked, granted] of [
        [0, 16 * kb],
        [131_072, 131_072],
        [2 ** 40, 4096 * kb]
      ]) {
        const client = yield* memoryClient
        client.capabilities = { outputWindow: asked }
        assert.deepStrictEqual((yield* client.handshake()).capabilities, { outputWindow: granted })
      }
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped(
    "that acknowledges nothing: its process is not read any more, and goes on with the first acknowledgement",
    () =>
      Effect.gen(function* () {
        const { client, child, ack } = yield* started(16 * kb)
        child.emit("stdout", Buffer.alloc(16 * kb - 1))
        assert.isFalse(child.paused)
        child.emit("stdout", "x")
        assert.isTrue(child.paused)
        yield* ack(0)
        assert.isTrue(child.paused)
        yield* ack(1)
        assert.isFalse(child.paused)
        child.emit("stdout", "more")
        yield* client.sees("p", "more")
      }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("holds up the process alone whose output it does not acknowledge", () =>
    Effect.gen(function* () {
      const { client, child } = yield* started(16 * kb)
      yield* client.start("q", ["program"])
      yield* settle
      const other = yield* (yield* FakeSpawner).child(1)
      child.emit("stdout", Buffer.alloc(20 * kb))
      other.emit("stdout", "quick")
      yield* client.sees("q", "quick")
      assert.deepStrictEqual([child.paused, other.paused], [true, false])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("that is gone holds nothing up, and the next one begins with an empty window", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      client.capabilities = { outputWindow: 16 * kb }
      const { sessionId } = yield* client.handshake()
      yield* client.start("p", ["program"])
      yield* settle
      const child = yield* (yield* FakeSpawner).child(0)
      child.emit("stdout", Buffer.alloc(20 * kb))
      assert.isTrue(child.paused)
      client.carrier.close()
      yield* client.ended()
      yield* settle
      assert.isFalse(child.paused)
      child.emit("stdout", Buffer.alloc(30 * kb))
      assert.isFalse(child.paused)
      const next = yield* memoryClient
      next.capabilities = { outputWindow: 16 * kb }
      yield* next.handshake({ resumeSessionId: sessionId })
      next.knows("p")
      child.emit("stdout", Buffer.alloc(10 * kb))
      yield* settle
      assert.isFalse(child.paused)
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("acknowledges unknown processes without consequence", () =>
    Effect.gen(function* () {
      const { client } = yield* started(16 * kb)
      client.raw('{"method":"process/ack","params":{"processId":"nope","seq":7}}')
      yield* client.ask("environment/status")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("that acknowledges what is none ends its connection", () =>
    Effect.gen(function* () {
      const { client } = yield* started(16 * kb)
      client.raw('{"method":"process/ack","params":{"processId":"p","seq":-1}}')
      const { code, reason } = yield* client.ended()
      assert.strictEqual(code, 1002)
      assert.include(reason, "process/ack: ")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("is the only one that may acknowledge", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      client.raw('{"method":"process/ack","params":{"processId":"p","seq":1}}')
      assert.deepStrictEqual(yield* client.ended(), {
        code: 1002,
        reason: "unexpected notification method: process/ack"
      })
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scopedLive("gets all of a flood, however it acknowledges, and a program that it kills ends", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      client.capabilities = { outputWindow: 16 * kb }
      yield* client.handshake()
      yield* client.sh("p", "head -c 3000000 /dev/zero")
      let acknowledged = 0
      while (!client.messages.some(({ method }) => method === "process/closed")) {
        yield* settle
        const last = client.messages.findLast(({ method }) => method === "process/output")?.params.seq ?? 0
        if (last === acknowledged) continue
        acknowledged = last
        client.raw(JSON.stringify({ method: "process/ack", params: { processId: "p", seq: last } }))
      }
      assert.strictEqual(client.output("p").length, 3_000_000)
      yield* client.sh("q", "cat /dev/zero")
      yield* client.until("a full window", () => (client.output("q").length >= 16 * kb ? true : undefined))
      assert.isTrue((yield* client.ask("process/terminate", { processId: "q" })).running)
      assert.strictEqual((yield* client.closed("q")).signal, "SIGKILL")
      assert.isBelow(client.output("q").length, 1_000_000)
    }).pipe(Effect.provide(memoryLayer))
  )

  it.scopedLive("has binary frames as well, over a socket", () =>
    Effect.gen(function* () {
      const { server } = yield* connected()
      const client = yield* server.connect
      client.capabilities = { outputWindow: 16 * kb, binaryOutput: true }
      assert.deepStrictEqual((yield* client.handshake()).capabilities, { binaryOutput: true, outputWindow: 16 * kb })
      yield* client.sh("p", "head -c 200000 /dev/zero; echo done")
      yield* client.until("a full window", () => (client.output("p").length >= 16 * kb ? true : undefined))
      yield* Effect.sleep("300 millis")
      assert.isBelow(client.output("p").length, 16 * kb + 2 * 65_536)
      while (!client.output("p").includes("done")) {
        yield* settle
        const last = client.messages.findLast(({ method }) => method === "process/output")?.params.seq ?? 0
        client.raw(JSON.stringify({ method: "process/ack", params: { processId: "p", seq: last } }))
      }
      assert.strictEqual(client.output("p").length, 200_005)
    })
  )
})
