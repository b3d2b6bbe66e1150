/** Sealed records: recorded ones, limits, and runs over a bad network. `npm run test:noise` makes more runs. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as NoiseFrame from "../../../src/remote/noise/NoiseFrame.js"
import { type Fault, RecordReader, RecordWriter, wideBytes } from "../../../src/remote/noise/Records.js"
import { sealParts } from "../../../src/remote/noise/SymmetricState.js"
import { run } from "./simulation.js"
import { both, genuineExecutor, genuineHarness, hex } from "./vectors.js"

const runs = Number(process.env["NOISE_RUNS"] ?? 3000)

const timeout = 60_000 + runs * 5

const key = Buffer.alloc(32, 1)

const reader = (options: Partial<ConstructorParameters<typeof RecordReader>[1]> = {}, readKey: Uint8Array = key) =>
  new RecordReader(readKey, { maxMessageBytes: 67108864, maxHeldBytes: 268435456, budget: { used: 0 }, ...options })

const seal = (seq: number, plaintext: Uint8Array | string, sealKey: Uint8Array = key) =>
  Buffer.concat(sealParts(sealKey, seq, [Buffer.from(plaintext)]))

const framed = (text: string) => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(Buffer.byteLength(text))
  return Buffer.concat([length, Buffer.from(text)])
}

const take = (from: RecordReader): ReadonlyArray<string> => {
  const all: Array<string> = []
  for (let message = from.take(); message !== undefined; message = from.take()) all.push(message.toString())
  return all
}

const sealAll = (writer: RecordWriter) => {
  const all: Array<{ readonly seq: number; readonly sealed: Buffer }> = []
  for (let record = writer.next(); record !== undefined; record = writer.next()) {
    all.push({ seq: record.seq, sealed: Buffer.concat(record.parts) })
  }
  return all
}

const recordOf = (frame: string) => {
  const decoded = NoiseFrame.decode(hex(frame))
  if (typeof decoded === "string" || decoded.body._tag !== "Record") return assert.fail("not a record")
  return decoded.body
}

describe("the writer", () => {
  it("makes the recorded records and frames", () => {
    const writer = new RecordWriter(hex(both.k_harness_to_executor))
    for (const text of genuineHarness.plaintexts) writer.enqueue({ payload: Buffer.from(text) })
    const records = sealAll(writer)
    assert.deepStrictEqual(
      records.map(({ sealed }) => sealed.toString("hex")),
      [both.records.harness_0, both.records.harness_1]
    )
    assert.deepStrictEqual(
      records.map(({ seq, sealed }) => NoiseFrame.record(both.stream_id, seq, [sealed]).toString("hex")),
      [both.frames.data_0, both.frames.data_1]
    )
    const back = new RecordWriter(hex(both.k_executor_to_harness))
    back.enqueue({ payload: Buffer.from('{"id":1,"result":{"sessionId":"s"}}') })
    assert.strictEqual(sealAll(back)[0]?.sealed.toString("hex"), both.records.executor_0)
  })

  it("makes the recorded frames without records", () => {
    const { stream_id: id } = both
    assert.strictEqual(Buffer.from(NoiseFrame.resume(id)).toString("hex"), both.frames.resume)
    assert.strictEqual(
      Buffer.from(NoiseFrame.reset(id, "noise_relay_protocol_error")).toString("hex"),
      both.frames.reset
    )
    const handshake = Buffer.from(NoiseFrame.handshake(id, Buffer.from(both.message1, "base64"))).toString("hex")
    assert.isTrue(handshake.startsWith(both.frames.handshake_prefix))
  })

  it("cuts at 61440 bytes, and begins each message in a record of its own", () => {
    const writer = new RecordWriter(key)
    for (const size of [61436, 61437, 130000, 1]) writer.enqueue({ payload: Buffer.alloc(size, 120) })
    assert.strictEqual(writer.queuedBytes, 61436 + 61437 + 130000 + 1)
    const sizes = sealAll(writer).map(({ sealed }) => sealed.length - 16)
    assert.deepStrictEqual(sizes, [61440, 61440, 1, 61440, 61440, 7124, 5])
    assert.strictEqual(writer.queuedBytes, 0)
  })

  it("lets messages share longer records, if the reader takes them", () => {
    const sizes = [10, 20, 87_500, 3000, 200_000, 5, 5]
    const texts = sizes.map((size, i) => String(i).repeat(size))
    const writer = new RecordWriter(key)
    writer.widen(1_000_000)
    let sealed = 0
    for (const text of texts) writer.enqueue({ payload: Buffer.from(text), onSealed: () => sealed++ })
    const records = sealAll(writer)
    assert.deepStrictEqual(
      records.map(({ sealed }) => sealed.length - 16),
      [87_542, 3004, wideBytes, wideBytes, 200_004 - 2 * wideBytes + 18]
    )
    assert.strictEqual(sealed, texts.length)
    assert.strictEqual(writer.queuedBytes, 0)
    const back = reader()
    assert.deepStrictEqual(back.receive(0, records[0]?.sealed ?? Buffer.alloc(0)), Either.left("recordSize"))
    back.widen()
    for (const { seq, sealed } of records) assert.isTrue(Either.isRight(back.receive(seq, sealed)))
    assert.deepStrictEqual(take(back), texts)
    const narrow = new RecordWriter(key)
    narrow.widen(0)
    for (const text of ["a", "b"]) narrow.enqueue({ payload: Buffer.from(text) })
    assert.lengthOf(sealAll(narrow), 2)
  })

  it("frames numbers and lengths of any size", () => {
    for (const seq of [0, 1, 127, 128, 16384, 2 ** 31, 2 ** 32 - 1]) {
      for (const size of [1, 100, 127, 128, 20000]) {
        const frame = NoiseFrame.record("a-stream", seq, [Buffer.alloc(size, 1), Buffer.alloc(16, 2)])
        const body = recordOf(frame.toString("hex"))
        assert.strictEqual(body.seq, seq)
        assert.strictEqual(body.payload.length, size + 16)
      }
    }
  })
})

describe("the reader", () => {
  it("reads what the original wrote", () => {
    const ofHarness = reader({}, hex(genuineHarness.k_harness_to_executor))
    for (const frame of genuineHarness.frames_from_harness.slice(2)) {
      const { seq, payload } = recordOf(frame)
      assert.isTrue(Either.isRight(ofHarness.receive(seq, payload)))
    }
    assert.deepStrictEqual(take(ofHarness), genuineHarness.plaintexts)

    const ofExecutor = reader({}, hex(genuineExecutor.k_executor_to_harness))
    for (const frame of genuineExecutor.frames_from_executor.slice(1)) {
      const { seq, payload } = recordOf(frame)
      assert.isTrue(Either.isRight(ofExecutor.receive(seq, payload)))
    }
    const messages = take(ofExecutor).map((text) => JSON.parse(text))
    assert.deepStrictEqual(
      messages.filter(({ method }) => method !== undefined),
      genuineExecutor.notifications
    )
  })

  it("reads what was sent in any cut, order and number", () => {
    const text = "a".repeat(200)
    const all = Buffer.concat([framed("one"), framed(text), framed("three")])
    for (const size of [1, 2, 3, 5, 7, 100, all.length]) {
      const pieces = Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
        all.subarray(i * size, i * size + size)
      )
      const records = pieces.map((piece, seq) => ({ seq, sealed: seal(seq, piece) }))
      const shuffled = records.flatMap((_, i) => (i % 8 === 0 ? records.slice(i, i + 8).reverse() : []))
      const back = reader()
      for (const { seq, sealed } of [...shuffled, ...shuffled]) {
        assert.isTrue(Either.isRight(back.receive(seq, sealed)))
      }
      assert.deepStrictEqual(take(back), ["one", text, "three"], `in pieces of ${size}`)
    }
  })

  it.each<readonly [name: string, fault: Fault, records: ReadonlyArray<readonly [seq: number, sealed: Buffer]>]>([
    ["a record that was changed", "authentication", [[0, Buffer.alloc(40)]]],
    ["a record without room for a tag", "authentication", [[0, Buffer.alloc(3)]]],
    ["a record under another number", "authentication", [[0, seal(1, framed("x"))]]],
    ["a message of no bytes", "messageSize", [[0, seal(0, Buffer.alloc(4))]]],
    ["a message above the limit", "messageSize", [[0, seal(0, Buffer.from("04000001", "hex"))]]],
    ["a record of 61441 bytes", "recordSize", [[0, seal(0, Buffer.alloc(61441, 1))]]],
    ["a record 65 ahead", "window", [[65, seal(65, framed("x"))]]],
    [
      "18 of the longest records that wait",
      "held",
      Array.from({ length: 18 }, (_, i) => [i + 1, seal(i + 1, Buffer.alloc(61440, 1))] as const)
    ]
  ])("ends at %s", (_, fault, records) => {
    const back = reader()
    const outcomes = records.map(([seq, sealed]) => back.receive(seq, sealed))
    assert.isTrue(outcomes.slice(0, -1).every(Either.isRight))
    assert.deepStrictEqual(outcomes.at(-1), Either.left(fault))
    assert.deepStrictEqual(take(back), [])
  })

  it("waits for 64 records, and for 17 of the longest", () => {
    const ahead = reader()
    for (let seq = 64; seq >= 0; seq--) {
      assert.isTrue(Either.isRight(ahead.receive(seq, seal(seq, framed(String(seq))))))
    }
    assert.strictEqual(take(ahead).length, 65)
    const long = reader()
    for (let seq = 17; seq > 0; seq--) {
      assert.isTrue(Either.isRight(long.receive(seq, seal(seq, Buffer.alloc(61440, 1)))))
    }
  })

  it("does not keep the frames of what waits", () => {
    const from = reader()
    const frame = Buffer.concat([seal(1, framed("two")), Buffer.alloc(100_000)])
    from.receive(1, frame.subarray(0, -100_000))
    frame.fill(0)
    assert.isTrue(Either.isRight(from.receive(0, seal(0, framed("one")))))
    assert.deepStrictEqual(take(from), ["one", "two"])
  })

  it("holds no more than its share, and gives everything back", () => {
    const budget = { used: 0 }
    const limits = { maxHeldBytes: 450, budget }
    const [one, other] = [reader(limits), reader(limits)]
    assert.isTrue(Either.isRight(one.receive(0, seal(0, framed("x".repeat(290))))))
    assert.deepStrictEqual(other.receive(0, seal(0, framed("x".repeat(40)))), Either.left("held"))
    other.release()
    assert.isAtLeast(budget.used, 290)
    assert.strictEqual(take(one).length, 1)
    assert.strictEqual(budget.used, 0)
    assert.isTrue(Either.isRight(one.receive(1, seal(1, framed("y").subarray(0, 3)))))
    assert.isTrue(Either.isRight(one.receive(3, seal(3, "z"))))
    assert.isAbove(budget.used, 0)
    one.release()
    assert.strictEqual(budget.used, 0)
  })
})

describe("over a bad network", () => {
  const isBeginning = (received: ReadonlyArray<Buffer>, sent: ReadonlyArray<Buffer>) =>
    received.every((message, i) => sent[i]?.equals(message))

  it(`everything arrives that no one changed (${runs} runs)`, { timeout }, () => {
    for (let seed = 1; seed <= runs; seed++) {
      const { sent, received, fault, isLossy } = run(seed, { cuts: seed % 4 === 0 })
      assert.isUndefined(fault, `seed ${seed}`)
      assert.isTrue(isBeginning(received, sent), `seed ${seed}: another message than was sent`)
      if (!isLossy) assert.strictEqual(received.length, sent.length, `seed ${seed}`)
    }
  })

  it(`nothing arrives that follows a lost record (${runs} runs)`, { timeout }, () => {
    let begun = 0
    for (let seed = 1; seed <= runs; seed++) {
      const { sent, received, fault } = run(seed, { loses: true })
      assert.isTrue(isBeginning(received, sent), `seed ${seed}: another message than was sent`)
      assert.isBelow(received.length, sent.length, `seed ${seed}: a message without one of its records`)
      assert.include([undefined, "window"], fault, `seed ${seed}`)
      if (received.length > 0) begun++
    }
    assert.isAbove(begun, runs / 4)
  })

  it(`what somebody forged is never a message (${runs} runs)`, { timeout }, () => {
    let caught = 0
    for (let seed = 1; seed <= runs; seed++) {
      const { sent, received, fault, isForged, isLossy } = run(seed, { forges: true, cuts: seed % 4 === 0 })
      assert.isTrue(isBeginning(received, sent), `seed ${seed}: another message than was sent`)
      if (!isForged) assert.isUndefined(fault, `seed ${seed}`)
      // A forged record that came after the true one was a double. Otherwise the stream has ended.
      else if (fault === undefined && !isLossy) assert.strictEqual(received.length, sent.length, `seed ${seed}`)
      if (fault !== undefined) caught++
    }
    assert.isAbove(caught, runs / 4)
  })
})
