import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Wire from "../../src/protocol/Wire.js"
import * as Base64 from "../../src/session/Base64.js"
import * as Outbox from "../../src/session/Outbox.js"
import { highWaterBytes, type Peer } from "../../src/session/Peer.js"
import { fill } from "../support/fake.js"

/** A peer that keeps what it is sent, and lets nothing leave while it is stuck. */
const makePeer = (parts: boolean) => {
  const messages: Array<string> = []
  const state = { stuck: false, size: 0, largestPart: 0, partial: "" }
  const peer: Peer = {
    name: "",
    grant: { id: "test" },
    malformedPrefix: "",
    resumable: true,
    listen: () => {},
    send: (text) => {
      assert.strictEqual(state.partial, "", "no message between the parts of another")
      messages.push(text)
    },
    buffered: () => (state.stuck ? state.size : 0),
    pause: () => {},
    resume: () => {},
    close: () => {},
    ...(parts
      ? {
          sendPart: (part: Buffer, isLast: boolean) => {
            state.size += part.length
            state.largestPart = Math.max(state.largestPart, part.length)
            state.partial += part.toString()
            if (!isLast) return
            messages.push(state.partial)
            state.partial = ""
          }
        }
      : {})
  }
  return { peer, messages, state }
}

/** Completes when the outbox says that all large messages have left. */
const sent = (peer: Peer) => {
  let onSent = () => {}
  const outbox = Outbox.make(peer, () => onSent())
  const untilSent = Effect.async<void>((resume) => {
    onSent = () => resume(Effect.void)
  })
  return { outbox, untilSent }
}

const turns = (count: number) =>
  Effect.promise(async () => {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
  })

for (const parts of [true, false]) {
  describe(parts ? "in parts" : "whole", () => {
    for (const length of [0, 1, Base64.sliceBytes - 1, Base64.sliceBytes, Base64.sliceBytes + 1, 3_000_000]) {
      it.live(`${length} bytes`, () =>
        Effect.gen(function* () {
          const { peer, messages, state } = makePeer(parts)
          const { outbox, untilSent } = sent(peer)
          const bytes = fill(length, 0xab)
          outbox.send("before")
          outbox.sendLarge({ head: '{"é":"', bytes, tail: '"}' })
          outbox.send("after")
          outbox.sendLarge({ head: '{"b":"', bytes: Buffer.from("b"), tail: '"}' })
          assert.isTrue(outbox.isSending())
          assert.deepStrictEqual(messages, ["before"])
          yield* untilSent
          assert.isFalse(outbox.isSending())
          assert.deepStrictEqual(messages, ["before", `{"é":"${bytes.toString("base64")}"}`, "after", '{"b":"Yg=="}'])
          outbox.send("at once")
          assert.strictEqual(messages[4], "at once")
          assert.isBelow(state.largestPart, 600_000)
        })
      )
    }
  })
}

it.live("no more is made than a stuck peer may have waiting; what waits behind is counted", () =>
  Effect.gen(function* () {
    const { peer, messages, state } = makePeer(true)
    const { outbox, untilSent } = sent(peer)
    state.stuck = true
    outbox.sendLarge({ head: "", bytes: fill(30_000_000), tail: "" })
    yield* turns(100)
    assert.isBelow(state.size, 3_000_000)
    const before = outbox.buffered()
    outbox.send("x".repeat(1000))
    assert.strictEqual(outbox.buffered(), before + 1000)
    const made = state.size
    yield* turns(10)
    assert.strictEqual(state.size, made)
    state.stuck = false
    outbox.onDrain()
    yield* untilSent
    assert.deepStrictEqual(
      messages.map((message) => message.length),
      [40_000_000, 1000]
    )
    assert.strictEqual(outbox.buffered(), 0)
  })
)

it.live("nothing is made for a peer that is gone", () =>
  Effect.gen(function* () {
    const { peer, state, messages } = makePeer(true)
    const { outbox } = sent(peer)
    outbox.sendLarge({ head: "", bytes: fill(30_000_000), tail: "" })
    yield* turns(3)
    outbox.stop()
    const made = state.size
    yield* turns(20)
    assert.strictEqual(state.size, made)
    assert.deepStrictEqual(messages, [])
    assert.strictEqual(outbox.buffered(), 0)
  })
)

it("a message that cannot be sent in parts must fit into a string", () => {
  assert.strictEqual(sent(makePeer(true).peer).outbox.maxContentBytes, Number.POSITIVE_INFINITY)
  const { maxContentBytes } = sent(makePeer(false).peer).outbox
  assert.isAbove(maxContentBytes, 2 ** 28)
  assert.isBelow((maxContentBytes / 3) * 4, 2 ** 29)
})

it.live("an answer is written the same, whether in parts or not", () =>
  Effect.gen(function* () {
    const id = Wire.malformedId
    const encode = (result: unknown) => {
      const { status, data } = result as { status: number; data: Buffer }
      return { status, data: data.toString("base64"), more: [1] }
    }
    for (const length of [10, 3_000_000]) {
      const { peer, messages, state } = makePeer(true)
      const { outbox, untilSent } = sent(peer)
      const data = fill(length, 0xab)
      outbox.succeed(id, { status: 200, data }, encode)
      if (length > 10) yield* untilSent
      assert.strictEqual(state.largestPart > 0, length > 10)
      const expected = { id: -1, result: { status: 200, data: data.toString("base64"), more: [1] } }
      assert.deepStrictEqual(JSON.parse(messages[0] ?? ""), expected)
    }
  })
)

describe("frames that are in a buffer already", () => {
  /** A peer of all kinds of messages, in the order it gets them. */
  const framed = () => {
    const { peer, messages, state } = makePeer(true)
    const onSents: Array<() => void> = []
    const { outbox, untilSent } = sent({
      ...peer,
      roomAround: { before: 4, after: 2 },
      sendUtf8: (bytes, onSent) => {
        assert.strictEqual(state.partial, "")
        messages.push(`utf8 ${bytes}`)
        onSents.push(onSent)
      },
      sendBinary: (bytes, onSent) => {
        assert.strictEqual(state.partial, "")
        messages.push(`binary ${bytes}`)
        onSents.push(onSent)
      }
    })
    return { outbox, untilSent, messages, state, onSents }
  }

  it.live("go at once, or in their places behind a large message; whoever lent the buffer gets it back", () =>
    Effect.gen(function* () {
      const { outbox, untilSent, messages, state, onSents } = framed()
      const given: Array<string> = []
      const lend = (text: string) => [Buffer.from(text), () => void given.push(text)] as const
      outbox.sendBinary?.(...lend("a"))
      outbox.sendUtf8?.(...lend("b"))
      assert.deepStrictEqual(messages, ["binary a", "utf8 b"])
      outbox.sendLarge({ head: "", bytes: Buffer.from("c"), tail: "" })
      outbox.sendBinary?.(...lend("dd"))
      outbox.send("e")
      outbox.sendUtf8?.(...lend("fff"))
      assert.lengthOf(messages, 2)
      assert.strictEqual(outbox.buffered(), 6)
      yield* untilSent
      assert.deepStrictEqual(messages.slice(2), ["Yw==", "binary dd", "e", "utf8 fff"])
      state.stuck = true
      state.size = 0
      assert.strictEqual(outbox.buffered(), 0)
      for (const onSent of onSents) onSent()
      assert.deepStrictEqual(given, ["a", "b", "dd", "fff"])
    })
  )

  it("are what the peer takes: those that it does not take are not offered", () => {
    const { outbox } = framed()
    assert.deepStrictEqual(outbox.roomAround, { before: 4, after: 2 })
    const bare = sent(makePeer(true).peer).outbox
    for (const name of ["sendUtf8", "sendBinary", "roomAround"]) assert.notProperty(bare, name)
  })

  it.live("that wait for a peer that is gone are dropped", () =>
    Effect.gen(function* () {
      const { outbox, messages } = framed()
      outbox.sendLarge({ head: "", bytes: fill(3_000_000), tail: "" })
      outbox.sendUtf8?.(Buffer.from("behind"), () => {})
      outbox.stop()
      assert.isFalse(outbox.isSending())
      outbox.sendLarge({ head: "", bytes: Buffer.from("late"), tail: "" })
      outbox.onDrain()
      yield* turns(20)
      assert.deepStrictEqual(messages, [])
      assert.strictEqual(outbox.buffered(), 0)
    })
  )
})

it.live("a peer that is sent messages whole, and is gone in the middle of one, is sent nothing of it", () =>
  Effect.gen(function* () {
    const { peer, messages } = makePeer(false)
    const { outbox } = sent(peer)
    outbox.sendLarge({ head: "", bytes: fill(3_000_000), tail: "" })
    yield* turns(1)
    outbox.stop()
    yield* turns(20)
    assert.deepStrictEqual(messages, [])
  })
)

it.live("what a peer takes meanwhile makes a large message no faster: one part in each turn", () =>
  Effect.gen(function* () {
    const { peer, state } = makePeer(true)
    const { outbox, untilSent } = sent(peer)
    outbox.onDrain()
    outbox.sendLarge({ head: "", bytes: fill(3_000_000), tail: "" })
    outbox.onDrain()
    assert.strictEqual(state.size, 0)
    yield* turns(1)
    const afterOne = state.size
    assert.isAbove(afterOne, 0)
    outbox.onDrain()
    assert.strictEqual(state.size, afterOne)
    yield* untilSent
  })
)

it.live("a peer at its high-water mark gets the next part, and above it none", () =>
  Effect.gen(function* () {
    const { peer, state } = makePeer(true)
    let waiting = highWaterBytes + 1
    const { outbox } = sent({ ...peer, buffered: () => waiting })
    outbox.sendLarge({ head: "", bytes: fill(3_000_000), tail: "" })
    yield* turns(3)
    assert.strictEqual(state.size, 0)
    waiting--
    outbox.onDrain()
    assert.isAbove(state.size, 0)
    outbox.stop()
  })
)

it.live("content of 1 MiB is sent whole, and in parts when it is one byte more", () =>
  Effect.gen(function* () {
    for (const [length, inParts] of [
      [1_048_576, false],
      [1_048_577, true]
    ] as const) {
      const { peer, messages, state } = makePeer(true)
      const { outbox } = sent(peer)
      outbox.succeed(Wire.malformedId, { data: fill(length) }, () => ({}))
      assert.strictEqual(outbox.isSending(), inParts)
      yield* turns(10)
      assert.lengthOf(messages, 1)
      assert.strictEqual(state.largestPart > 0, inParts)
    }
  })
)

it.live("nothing large is begun for a peer that is gone, however long ago", () =>
  Effect.gen(function* () {
    const { peer, messages } = makePeer(true)
    const { outbox } = sent(peer)
    outbox.stop()
    outbox.sendLarge({ head: "", bytes: Buffer.from("late"), tail: "" })
    assert.isFalse(outbox.isSending())
    yield* turns(5)
    assert.deepStrictEqual(messages, [])
  })
)

it.live("nobody is told that large messages have left when there were none", () =>
  Effect.gen(function* () {
    const { peer } = makePeer(true)
    let told = 0
    const outbox = Outbox.make(peer, () => told++)
    outbox.onDrain()
    outbox.send("x")
    assert.strictEqual(told, 0)
    outbox.sendLarge({ head: "", bytes: Buffer.from("c"), tail: "" })
    yield* turns(5)
    assert.strictEqual(told, 1)
  })
)

describe("a peer that drains while it is sent something", () => {
  for (const parts of [true, false]) {
    it.live(parts ? "gets each part once" : "gets each message once, and those that wait behind it", () =>
      Effect.gen(function* () {
        const { peer, messages } = makePeer(parts)
        let onDrain = () => {}
        const { sendPart } = peer
        const draining: Peer = {
          ...peer,
          send: (text) => {
            peer.send(text)
            onDrain()
          },
          ...(sendPart === undefined
            ? {}
            : {
                sendPart: (part: Buffer, isLast: boolean) => {
                  sendPart(part, isLast)
                  onDrain()
                }
              })
        }
        const { outbox, untilSent } = sent(draining)
        onDrain = outbox.onDrain
        const bytes = fill(3 * Base64.sliceBytes + 1)
        const encode = (result: unknown) => ({ ...(result as object), chunk: "" })
        for (let i = 0; i < 2; i++) outbox.succeed(Wire.malformedId, { chunk: bytes }, encode)
        outbox.send("after")
        yield* untilSent
        assert.lengthOf(messages, 3)
        for (const message of messages.slice(0, 2)) {
          assert.isTrue(Buffer.from(JSON.parse(message).result.chunk, "base64").equals(bytes))
        }
        assert.strictEqual(messages[2], "after")
      })
    )
  }
})
