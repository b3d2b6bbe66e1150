/** Whose connection is cut off when the messages that have not arrived in full are too many bytes together. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { UnfinishedMessages } from "../../src/transport/UnfinishedMessages.js"
import { exposed } from "../support/exposed.js"
import { asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { connectTo, rawSocket } from "../support/servers.js"

const initialize = '{"id":1,"method":"initialize","params":{"clientName":"raw"}}'

/** Connections of a server that keeps 100 bytes, and who was cut off. */
const bench = () => {
  const messages = new UnfinishedMessages(100)
  const cut: Array<string> = []
  const reasons: Array<string> = []
  const connection = (name: string) =>
    messages.make((reason) => {
      cut.push(name)
      reasons.push(reason)
    })
  return { cut, reasons, connection }
}

it("the one with the most bytes is cut off, whoever sent last", () => {
  const { cut, reasons, connection } = bench()
  const [small, large, other] = [connection("small"), connection("large"), connection("other")]
  small.grow(10)
  large.grow(60)
  other.grow(30)
  assert.deepStrictEqual(cut, [])
  other.grow(1)
  assert.deepStrictEqual(cut, ["large"])
  assert.match(reasons[0] ?? "", /^the limit unfinishedMessageBytesTotal \(100\) is reached; /)
  // Its bytes are gone with it.
  other.grow(59)
  assert.deepStrictEqual(cut, ["large"])
  other.grow(1)
  assert.deepStrictEqual(cut, ["large", "other"])
})

it("of two with as many bytes, the one that began first", () => {
  const { cut, connection } = bench()
  const [first, second] = [connection("first"), connection("second")]
  first.grow(50)
  second.grow(50)
  second.grow(0)
  assert.deepStrictEqual(cut, [])
  connection("third").grow(1)
  assert.deepStrictEqual(cut, ["first"])
})

it("a message that has arrived counts no more, and one that was something else in part counts the rest", () => {
  const { cut, connection } = bench()
  const [a, b] = [connection("a"), connection("b")]
  a.grow(100)
  a.finish()
  a.finish()
  b.grow(100)
  b.shrink(70)
  a.grow(70)
  assert.deepStrictEqual(cut, [])
  // No more than there was.
  b.shrink(1000)
  a.grow(30)
  assert.deepStrictEqual(cut, [])
  b.grow(1)
  assert.deepStrictEqual(cut, ["a"])
})

it("one that is finished is not cut off, also when it begins again", () => {
  const { cut, connection } = bench()
  const [a, b] = [connection("a"), connection("b")]
  a.grow(90)
  a.shrink(90)
  b.grow(40)
  a.grow(30)
  b.grow(31)
  assert.deepStrictEqual(cut, ["b"])
})

describe("messages that have not arrived in full", () => {
  /** The head of a text frame of 64 KiB, which more frames follow. */
  const head = Buffer.from([0x01, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  const part = Buffer.concat([head, Buffer.alloc(65_536, 0x20)])
  const onward = Buffer.from(part).fill(0x00, 0, 1)

  it.scopedLive("are bounded over all connections: the largest is closed with 1008, and others go on", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ transport: { unfinishedMessageBytesTotal: 1_000_000 } })
      const good = yield* connectTo(url)
      yield* good.handshake()
      const modest = yield* rawSocket(url)
      yield* asks(modest, upgrade())
      modest.write(frame(1, " ", false))
      const greedy = yield* rawSocket(url)
      yield* asks(greedy, upgrade())
      const closing = yield* Effect.fork(receives(greedy, (bytes) => bytes.includes("unfinishedMessageBytesTotal")))
      greedy.write(part)
      for (let i = 0; i < 20; i++) greedy.write(onward)
      const bytes = yield* Fiber.join(closing)
      assert.strictEqual(bytes[0], 0x88)
      assert.strictEqual(bytes.readUInt16BE(2), 1008)
      assert.include(bytes.toString("latin1"), "the limit unfinishedMessageBytesTotal (1000000) is reached")
      yield* ends(greedy)
      assert.deepStrictEqual(yield* good.ask("environment/status"), { status: "ready" })
      modest.write(frame(0, initialize))
      assert.include((yield* receives(modest, (all) => all.includes("sessionId"))).toString("latin1"), "sessionId")
    })
  )

  it.scopedLive("are none where messages are finished, or control frames are all that comes", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ transport: { unfinishedMessageBytesTotal: 100_000 } })
      const client = yield* connectTo(url)
      yield* client.handshake()
      for (let i = 0; i < 20; i++) yield* client.ask("process/list", { padding: "x".repeat(50_000) }).pipe(Effect.exit)
      const chatty = yield* rawSocket(url)
      yield* asks(chatty, upgrade())
      const pongs = Buffer.concat(Array(200).fill(frame(10, Buffer.alloc(125))))
      for (let i = 0; i < 10; i++) chatty.write(pongs)
      const empty = Buffer.concat(Array(2000).fill(frame(10, "")))
      for (let i = 0; i < 10; i++) chatty.write(empty)
      chatty.write(frame(1, initialize))
      assert.include((yield* receives(chatty, (all) => all.includes("sessionId"))).toString("latin1"), "sessionId")
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
    })
  )
})
