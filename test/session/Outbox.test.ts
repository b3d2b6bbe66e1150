import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Wire from "../../src/protocol/Wire.js"
import * as Base64 from "../../src/session/Base64.js"
import * as Outbox from "../../src/session/Outbox.js"
import type { Peer } from "../../src/session/Peer.js"
import { fill } from "../support/fake.js"

/** A peer that keeps what it is sent, and lets nothing leave while it is stuck. */
const makePeer = (parts: boolean) => {
  const messages: Array<string> = []
  const state = { stuck: false, size: 0, largestPart: 0, partial: "" }
  const peer: Peer = {
    name: "",
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
  assert.isBelow(Base64.lengthOf(maxContentBytes), 2 ** 29)
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
