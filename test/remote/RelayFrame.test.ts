import { Buffer } from "node:buffer"
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { RelayMessageFrameSchema } from "../../src/remote/gen/relay_pb.js"
import * as RelayFrame from "../../src/remote/RelayFrame.js"
import { RelayLimits } from "../../src/remote/RelayLimits.js"
import { RelaySender } from "../../src/remote/RelaySender.js"
import { FramePool, minBytes } from "../../src/session/FramePool.js"
import { random } from "./simulation.js"

const frame = (body: RelayFrame.Body, more: Partial<RelayFrame.Frame> = {}): RelayFrame.Frame => ({
  streamId: "s",
  ack: 0,
  ackBits: 0,
  reliable: false,
  acknowledged: false,
  body,
  ...more
})
const bodies: ReadonlyArray<RelayFrame.Body> = [
  { _tag: "Data", seq: 4294967295, index: 2, count: 3, payload: Buffer.from("payload") },
  { _tag: "Ack" },
  { _tag: "Resume", nextSeq: 7 },
  { _tag: "Reset", reason: "why" },
  { _tag: "Heartbeat" }
]
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")
const reason = (bytes: Uint8Array) =>
  Either.match(RelayFrame.decode(bytes), { onLeft: (drop) => drop.reason, onRight: () => "accepted" })
const message = (bytes: Uint8Array) =>
  Either.match(RelayFrame.decode(bytes), { onLeft: (drop) => drop.message, onRight: () => "accepted" })
/** A frame as others could send it. */
const raw = (init: Parameters<typeof create<typeof RelayMessageFrameSchema>>[1]) =>
  toBinary(RelayMessageFrameSchema, create(RelayMessageFrameSchema, { version: 1, streamId: "s", ...init }))

describe("RelayFrame", () => {
  it("every body travels, with its acknowledgements", () => {
    for (const body of bodies) {
      const sent = frame(body, { ack: 4294967295, ackBits: 4294967295, reliable: true, acknowledged: true })
      const got = Either.getOrThrowWith(RelayFrame.decode(RelayFrame.encode(sent)), ({ message }) => new Error(message))
      assert.deepStrictEqual(
        { ...got, body: got.body._tag === "Data" ? { ...got.body, payload: Buffer.from(got.body.payload) } : got.body },
        sent
      )
    }
  })

  it("the bytes are those of the schema: defaults are left out, fields are in the order of their numbers", () => {
    const first = frame({ _tag: "Data", seq: 0, index: 0, count: 1, payload: Buffer.from("{}") })
    assert.strictEqual(Buffer.from(RelayFrame.encode(first)).toString("hex"), "08011201732a0618012202" + "7b7d")
    assert.strictEqual(
      Buffer.from(RelayFrame.encode(frame({ _tag: "Ack" }, { ack: 1, ackBits: 2 }))).toString("hex"),
      "080112017318012002" + "3200"
    )
    assert.strictEqual(
      Buffer.from(RelayFrame.encode(frame({ _tag: "Heartbeat" }, { reliable: true, acknowledged: true }))).toString(
        "hex"
      ),
      "08011201734a00a00601a80601"
    )
  })

  it("fields come in any order, unknown ones are skipped, of two bodies the last counts", () => {
    assert.strictEqual(reason(hex("3200 120173 0801")), "accepted")
    assert.strictEqual(reason(hex("0801 120173 3200 f87f01 a2060161")), "undecodable")
    assert.strictEqual(reason(hex("0801 120173 3200 c03e01")), "accepted")
    const two = RelayFrame.decode(hex("0801 120173 3200 4203 0a0178"))
    assert.deepStrictEqual(Either.getOrThrow(two).body, { _tag: "Reset", reason: "x" })
  })

  it("what cannot be a frame is dropped, each for its reason", () => {
    assert.strictEqual(reason(Buffer.alloc(0)), "version")
    assert.strictEqual(reason(Buffer.from("hello")), "undecodable")
    assert.strictEqual(message(raw({ version: 2 })), "unsupported relay message frame version 2")
    assert.strictEqual(message(raw({ streamId: "" })), "relay message frame is missing stream_id")
    for (const streamId of [" s", "s\n", "x".repeat(129)]) assert.strictEqual(reason(raw({ streamId })), "streamId")
    assert.strictEqual(reason(hex("0801 1201ff 3200")), "undecodable")
    assert.strictEqual(message(raw({})), "relay message frame has no body")
    const data = (value: object) => raw({ body: { case: "data", value: { segmentCount: 1, ...value } as never } })
    const payload = Buffer.from("{}")
    assert.strictEqual(reason(data({ payload, segmentCount: 0 })), "segment")
    assert.strictEqual(reason(data({ payload, segmentIndex: 1 })), "segment")
    assert.strictEqual(reason(data({})), "emptyPayload")
    assert.strictEqual(reason(data({ payload })), "accepted")
    for (const text of ["", "x".repeat(257)]) {
      assert.strictEqual(reason(raw({ body: { case: "reset", value: { reason: text } as never } })), "resetReason")
    }
    assert.strictEqual(reason(raw({ body: { case: "handshake", value: { payload } as never } })), "handshake")
  })

  it("a small payload does not keep a large frame alive", () => {
    const large = Buffer.concat([hex("0801 120173 2a05 1801 2201 78 a23f 80c03e"), Buffer.alloc(1_024_000)])
    const { body } = Either.getOrThrowWith(RelayFrame.decode(large), ({ message }) => new Error(message))
    assert.strictEqual(body._tag === "Data" ? body.payload.buffer.byteLength : -1, 1)
  })

  it("a reason is cut to what a reset holds, and never empty", () => {
    for (const text of ["", "ü".repeat(300), "\ud800", "𝄞".repeat(100)]) {
      assert.strictEqual(reason(RelayFrame.encodeReset("s", text)), "accepted", text)
    }
  })

  it("a router sees the stream and its end, and skips the rest", () => {
    for (const body of bodies) {
      const route = RelayFrame.route(RelayFrame.encode(frame(body, { reliable: true })))
      assert.deepStrictEqual(route, Either.right({ streamId: "s", isReset: body._tag === "Reset" }))
    }
    for (const bytes of [Buffer.alloc(0), hex("0802 120173 3200"), hex("0801 3200"), hex("0801 120173"), hex("2aff")]) {
      assert.isTrue(Either.isLeft(RelayFrame.route(bytes)))
    }
  })

  it("random bytes, and frames with bytes changed, never throw, and name one stream", () => {
    const chance = random(1)
    const below = (n: number) => Math.floor(chance() * n)
    const samples = bodies.map((body) => RelayFrame.encode(frame(body, { ack: 300 })))
    for (let i = 0; i < 50_000; i++) {
      const sample = samples[below(samples.length)]
      const bytes =
        i % 2 === 0 || sample === undefined
          ? Buffer.from(Array.from({ length: below(40) }, () => below(256)))
          : Buffer.from(sample)
      if (i % 2 === 1) for (let n = below(4); n >= 0; n--) bytes[below(bytes.length)] = below(256)
      const decoded = RelayFrame.decode(bytes)
      const route = RelayFrame.route(bytes)
      if (Either.isRight(decoded) && Either.isRight(route)) {
        assert.strictEqual(route.right.streamId, decoded.right.streamId, bytes.toString("hex"))
      }
    }
  })
})

describe("the memory of a large message", () => {
  const limits = Effect.runSync(RelayLimits)
  const large = "x".repeat(minBytes)
  const frames = new FramePool()
  /** The buffer that whoever asks next is given. */
  const next = () => {
    const buffer = frames.take(minBytes)
    frames.give(buffer)
    return buffer
  }

  it("is used again when the socket has sent it and the peer has acknowledged it, not before", () => {
    for (const sentFirst of [true, false]) {
      const sender = new RelaySender(limits)
      sender.trust()
      sender.enqueue(RelayFrame.message(large, frames))
      const segment = sender.next(0)
      const { room } = segment ?? {}
      assert(room !== undefined)
      room.hold()
      const steps = [() => room.release(), () => sender.acknowledge(0, 0, 1)]
      const [first, second] = sentFirst ? steps : steps.reverse()
      assert.notStrictEqual(next(), room.buffer)
      first?.()
      assert.notStrictEqual(next(), room.buffer)
      second?.()
      assert.strictEqual(next(), room.buffer)
    }
  })

  it("is used again as soon as it was sent to a peer that acknowledges nothing, and when a peer turns out to be one", () => {
    for (const knownBefore of [true, false]) {
      const sender = new RelaySender(limits)
      if (knownBefore) sender.forget()
      sender.enqueue(RelayFrame.message(large, frames))
      const { room } = sender.next(0) ?? {}
      assert(room !== undefined)
      room.hold()
      if (!knownBefore) sender.forget()
      assert.notStrictEqual(next(), room.buffer)
      room.release()
      assert.strictEqual(next(), room.buffer)
    }
  })

  it("is written around, when it is what somebody else wrote the message to, and given back likewise", () => {
    const { before, after } = RelayFrame.roomAround
    const text = `${large}é`
    const length = Buffer.byteLength(text)
    const memory = Buffer.alloc(4 + before + length + after + 4, "#")
    memory.write(text, 4 + before)
    let given = 0
    const message = RelayFrame.wrap(memory.subarray(4 + before, 4 + before + length), () => given++)
    const frame = {
      streamId: "s".repeat(RelayFrame.maxStreamIdBytes),
      ack: 0xffffffff,
      ackBits: 0xffffffff,
      reliable: true,
      acknowledged: true
    }
    const segment = { _tag: "Data", seq: 0xffffffff, index: 0, count: 1 } as const
    const bytes = RelayFrame.encode({ ...frame, body: { ...segment, ...message } })
    assert.strictEqual(bytes.buffer, memory.buffer)
    assert.strictEqual(memory.toString("latin1", 0, 4) + memory.toString("latin1", memory.length - 4), "########")
    const decoded = Either.getOrThrow(RelayFrame.decode(bytes))
    assert.deepInclude(decoded, frame)
    const { body } = decoded
    assert(body._tag === "Data")
    assert.strictEqual(Buffer.from(body.payload).toString(), text)
    assert.deepInclude(body, { seq: 0xffffffff, index: 0, count: 1 })
    message.room?.hold()
    assert.strictEqual(given, 0)
    message.room?.release()
    assert.strictEqual(given, 1)
  })
})
