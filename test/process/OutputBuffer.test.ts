import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { ImageWriter } from "../../src/internal/Image.js"
import { OutputBuffer, type RetainedOutput } from "../../src/process/OutputBuffer.js"
import { OutputState } from "../../src/process/ProcessImage.js"
import { ProcessLimits } from "../../src/process/ProcessLimits.js"
import type { OutputStream } from "../../src/protocol/ExecApi.js"
import { bytes, fill, limits } from "../support/fake.js"
import { readerOf, viaJson } from "../support/image.js"

const layer = (perProcess: number, total: number, buffer: Layer.Layer<OutputBuffer>) =>
  Layer.unwrapEffect(
    Effect.map(limits({ retainedOutputBytesPerProcess: perProcess, retainedOutputBytesTotal: total }), (all) =>
      buffer.pipe(Layer.provide(Layer.succeed(ProcessLimits, all)))
    )
  )

const testOf =
  (buffer: Layer.Layer<OutputBuffer>) =>
  (
    title: string,
    perProcess: number,
    total: number,
    body: (make: Effect.Effect<RetainedOutput>) => Effect.Effect<unknown, never, OutputBuffer>
  ) =>
    it.effect(title, () =>
      Effect.flatMap(OutputBuffer, ({ make }) => body(make)).pipe(Effect.provide(layer(perProcess, total, buffer)))
    )

/** The default: the newest output. */
const test = testOf(OutputBuffer.layer)
const testHeadTail = testOf(OutputBuffer.layerHeadTail)

const everything = Number.POSITIVE_INFINITY

/** What is retained, as text. */
const texts = (output: RetainedOutput, afterSeq = 0, maxBytes = everything) =>
  output.select(afterSeq, maxBytes).chunks.map(({ seq, stream, chunk }) => `${seq} ${stream} ${chunk}`)

/** A small, well-known generator (mulberry32): the same tests every time. */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

interface Chunk {
  readonly seq: number
  readonly stream: OutputStream
  readonly chunk: Buffer
}

const streams: ReadonlyArray<OutputStream> = ["stdout", "stderr", "pty"]

/** Whether something after a cursor was dropped. */
const truncated = (output: RetainedOutput, afterSeq: number) => (output.gap()?.throughSeq ?? 0) > afterSeq

const droppedBytes = (output: RetainedOutput) => output.gap()?.bytes ?? 0

describe("the output of another version", () => {
  const frozen = (output: RetainedOutput) => {
    const writer = new ImageWriter()
    const state = viaJson(OutputState, output.freeze(writer))
    return { state, reader: readerOf(writer) }
  }

  /** All that readers see. */
  const seen = (output: RetainedOutput) => ({
    texts: texts(output),
    gap: output.gap(),
    omissions: streams.map((stream) => output.omission(stream)),
    streams: streams.map((stream) => output.concat(stream).toString("latin1")),
    after: [0, 1, 5, 10, 50].map((seq) => [output.hasAfter(seq), output.bytesAfter(seq)])
  })

  for (const [retain, buffer] of [
    ["tail", OutputBuffer.layer],
    ["head-tail", OutputBuffer.layerHeadTail]
  ] as const) {
    for (let seed = 201; seed <= 208; seed++) {
      const draw = random(seed)
      const below = (n: number) => Math.floor(draw() * n)
      const limit = 20 + below(400)
      testOf(buffer)(`goes on as if nothing had happened (${retain}, ${limit} bytes, seed ${seed})`, limit, 1e6, () =>
        Effect.gen(function* () {
          const { make, adopt } = yield* OutputBuffer
          const untouched = yield* make
          let replaced = yield* make
          for (let seq = 1; seq <= 300; seq++) {
            if (below(20) === 0) {
              const { state, reader } = frozen(replaced)
              assert.deepStrictEqual(seen(replaced), seen(untouched))
              replaced = adopt(state, reader)
            }
            const stream = streams[below(3)] ?? "stdout"
            const chunk = fill(1 + below(below(8) === 0 ? limit + 5 : 30), below(256))
            for (const output of [untouched, replaced]) output.append(seq, stream, chunk)
            assert.deepStrictEqual(seen(replaced), seen(untouched))
          }
        })
      )
    }
  }

  test("keeps what fits into smaller limits, and says what does not", 100, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      for (let seq = 1; seq <= 10; seq++) output.append(seq, "stdout", fill(10, seq))
      const { state, reader } = frozen(output)
      const [smaller, halves] = yield* Effect.all(
        [OutputBuffer.layer, OutputBuffer.layerHeadTail].map((buffer) =>
          Effect.map(OutputBuffer, ({ adopt }) => adopt(state, reader)).pipe(Effect.provide(layer(50, 1000, buffer)))
        )
      )
      const seqs = (of: RetainedOutput | undefined) => of?.select(0, everything).chunks.map(({ seq }) => seq)
      assert.deepStrictEqual(seqs(smaller), [6, 7, 8, 9, 10])
      assert.deepStrictEqual(smaller?.gap(), { fromSeq: 1, throughSeq: 5, bytes: 50 })
      assert.deepStrictEqual(seqs(halves), [1, 2, 9, 10])
      assert.deepStrictEqual(halves?.gap(), { fromSeq: 3, throughSeq: 8, bytes: 60 })
    })
  )

  test("that was released stays so, and a sealed one gives way first", 100, 150, (make) =>
    Effect.gen(function* () {
      const { adopt } = yield* OutputBuffer
      const [released, sealed] = [yield* make, yield* make]
      released.append(1, "stdout", fill(50))
      released.release()
      sealed.append(1, "stdout", fill(60))
      sealed.seal()
      const states = [released, sealed].map(frozen)
      sealed.release()
      const [gone, old] = states.map(({ state, reader }) => adopt(state, reader))
      assert.deepStrictEqual(gone?.select(0, everything).chunks, [])
      const living = yield* make
      living.append(1, "stdout", fill(90))
      assert.strictEqual(old?.bytesAfter(0), 60)
      living.append(2, "stdout", fill(10))
      assert.strictEqual(living.bytesAfter(0), 100)
      assert.strictEqual(old?.bytesAfter(0), 0)
    })
  )
})

describe("one process", () => {
  test("gives chunks after a cursor, with their numbers and streams", 100, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("a"))
      output.append(2, "stderr", bytes("b"))
      output.append(5, "pty", bytes("c"))
      assert.deepStrictEqual(texts(output), ["1 stdout a", "2 stderr b", "5 pty c"])
      assert.deepStrictEqual(texts(output, 1), ["2 stderr b", "5 pty c"])
      assert.deepStrictEqual(texts(output, 3), ["5 pty c"])
      assert.deepStrictEqual(texts(output, 5), [])
      assert.deepStrictEqual(texts(output, 2 ** 60), [])
      assert.isTrue(output.hasAfter(4))
      assert.isFalse(output.hasAfter(5))
    })
  )

  test("stops before maxBytes is exceeded, but always gives the first chunk", 100, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("aaa"))
      output.append(2, "stdout", bytes("bb"))
      output.append(3, "stdout", bytes("c"))
      const counts = [0, 1, 3, 4, 5, 6, 7].map((maxBytes) => {
        const { chunks, cut } = output.select(0, maxBytes)
        return [maxBytes, chunks.length, cut]
      })
      assert.deepStrictEqual(counts, [
        [0, 1, true],
        [1, 1, true],
        [3, 1, true],
        [4, 1, true],
        [5, 2, true],
        [6, 3, false],
        [7, 3, false]
      ])
      assert.deepStrictEqual(output.select(2, 0), {
        chunks: [{ seq: 3, stream: "stdout", chunk: bytes("c") }],
        cut: false
      })
    })
  )

  test("keeps exactly its limit, drops whole oldest chunks beyond it, and says so", 10, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("aaaa"))
      output.append(2, "stdout", bytes("bbbbbb"))
      assert.strictEqual(droppedBytes(output), 0)
      output.append(3, "stderr", bytes("c"))
      assert.deepStrictEqual(texts(output), ["2 stdout bbbbbb", "3 stderr c"])
      assert.strictEqual(droppedBytes(output), 4)
      assert.isTrue(truncated(output, 0))
      assert.isFalse(truncated(output, 1))
      assert.deepStrictEqual(output.omission("stdout"), { offset: 0, bytes: 4 })
      assert.isUndefined(output.omission("stderr"))
    })
  )

  test("a chunk larger than the limit leaves nothing", 10, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("aaaa"))
      output.append(2, "stdout", fill(11))
      assert.deepStrictEqual(texts(output), [])
      assert.strictEqual(droppedBytes(output), 15)
      // Somebody who waits for output must learn that there was some, and that it is gone.
      assert.isTrue(output.hasAfter(1))
      assert.isFalse(output.hasAfter(2))
      assert.isTrue(truncated(output, 1))
      assert.isFalse(truncated(output, 2))
      output.append(3, "stdout", bytes("b"))
      assert.deepStrictEqual(texts(output), ["3 stdout b"])
    })
  )

  test("a limit of 0 retains nothing and counts everything", 0, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      for (let seq = 1; seq <= 3; seq++) output.append(seq, "stdout", bytes("x"))
      assert.deepStrictEqual(texts(output), [])
      assert.strictEqual(droppedBytes(output), 3)
    })
  )

  test("copies what it is given, and gives copies", 100, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      const given = bytes("abc")
      output.append(1, "stdout", given)
      given.fill(0)
      const [first] = output.select(0, everything).chunks
      assert.strictEqual(first?.chunk.toString(), "abc")
      first?.chunk.fill(0)
      assert.strictEqual(output.concat("stdout").toString(), "abc")
    })
  )

  test("concat joins one stream", 100, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      const parts: ReadonlyArray<readonly [OutputStream, string]> = [
        ["stdout", "a"],
        ["stderr", "b"],
        ["stdout", "c"]
      ]
      parts.forEach(([stream, text], i) => {
        output.append(i + 1, stream, bytes(text))
      })
      assert.strictEqual(output.concat("stdout").toString(), "ac")
      assert.strictEqual(output.concat("stderr").toString(), "b")
      assert.strictEqual(output.concat("pty").toString(), "")
    })
  )

  test("1 MiB of 8 KiB chunks out of 3 MB", 1_048_576, 1e9, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      const produced = 3_000_004
      let seq = 0
      for (let done = 0; done < produced; done += 8192) {
        output.append(++seq, "stdout", fill(Math.min(8192, produced - done), seq % 251))
      }
      const { chunks } = output.select(0, everything)
      const retained = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0)
      assert.isAtMost(retained, 1_048_576)
      assert.isAbove(retained, 1_048_576 - 8192)
      assert.strictEqual(droppedBytes(output), produced - retained)
      for (const { seq, chunk } of chunks) assert.isTrue(chunk.every((byte) => byte === seq % 251))
    })
  )
})

describe("the place of a reader", () => {
  for (const [retain, buffer] of [
    ["tail", OutputBuffer.layer],
    ["head-tail", OutputBuffer.layerHeadTail]
  ] as const) {
    for (let seed = 301; seed <= 304; seed++) {
      const draw = random(seed)
      const below = (n: number) => Math.floor(draw() * n)
      const limit = 500 + below(3000)
      testOf(buffer)(`is found after any number (${retain}, ${limit} bytes, seed ${seed})`, limit, 1e9, (make) =>
        Effect.gen(function* () {
          const output = yield* make
          // Some numbers are missing: events that are not output have them.
          for (let seq = 1, n = 1; n <= 2000; n++, seq += 1 + below(3)) {
            output.append(seq, "stdout", fill(1 + below(12), n % 251))
            if (n % 97 !== 0) continue
            const { chunks } = output.select(0, everything)
            for (let i = 0; i < 20; i++) {
              const after = below(seq + 2)
              const rest = chunks.filter((chunk) => chunk.seq > after)
              const maxChunks = 1 + below(100)
              assert.deepStrictEqual(output.select(after, everything, maxChunks), {
                chunks: rest.slice(0, maxChunks),
                cut: rest.length > maxChunks
              })
              const size = rest.reduce((sum, { chunk }) => sum + chunk.length, 0)
              assert.strictEqual(output.bytesAfter(after), size)
            }
          }
        })
      )
    }
  }

  it.effect("is found without a walk through all chunks", () =>
    Effect.gen(function* () {
      const { make } = yield* OutputBuffer
      /** How long it takes to read so many chunks in pages, in milliseconds: the best of some. */
      const paging = Effect.fn(function* (count: number) {
        const output = yield* make
        for (let seq = 1; seq <= count; seq++) output.append(seq, "stdout", fill(1, seq % 251))
        let best = Number.POSITIVE_INFINITY
        for (let run = 0; run < 3; run++) {
          const startedAt = performance.now()
          let seen = 0
          for (let after = 0; after < count; after += 10) {
            seen += output.select(after, 10).chunks.length
            output.bytesAfter(after)
          }
          assert.strictEqual(seen, count)
          best = Math.min(best, performance.now() - startedAt)
        }
        return best
      })
      const small = yield* paging(10_000)
      const large = yield* paging(160_000)
      // 16 times as many; a walk makes it 256 times as slow.
      assert.isBelow(large / small, 100)
    }).pipe(Effect.provide(layer(1e6, 1e6, OutputBuffer.layer)))
  )
})

describe("the beginning and the end of one process", () => {
  testHeadTail("are kept whole while everything fits", 10, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("aaaa"))
      output.append(2, "stderr", bytes("bb"))
      output.append(3, "stdout", bytes("ccc"))
      assert.deepStrictEqual(texts(output), ["1 stdout aaaa", "2 stderr bb", "3 stdout ccc"])
      assert.isFalse(truncated(output, 0))
      assert.isUndefined(output.omission("stdout"))
    })
  )

  testHeadTail("the middle is dropped, and it is told how much, and where it was", 10, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      for (const [index, text] of ["aaaa", "bb", "ccc", "dd", "e"].entries()) {
        output.append(index + 1, index === 1 ? "stderr" : "stdout", bytes(text))
      }
      assert.deepStrictEqual(texts(output), ["1 stdout aaaa", "4 stdout dd", "5 stdout e"])
      assert.strictEqual(output.concat("stdout").toString(), "aaaadde")
      assert.deepStrictEqual(output.omission("stdout"), { offset: 4, bytes: 3 })
      assert.deepStrictEqual(output.omission("stderr"), { offset: 0, bytes: 2 })
      assert.strictEqual(droppedBytes(output), 5)
      assert.isTrue(truncated(output, 0))
      assert.isTrue(truncated(output, 2))
      assert.isFalse(truncated(output, 3))
    })
  )

  testHeadTail("a reading that is cut in the beginning goes on behind the gap", 10, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      for (const [index, text] of ["aa", "bbb", "cccc", "dddd", "e"].entries()) {
        output.append(index + 1, "stdout", bytes(text))
      }
      assert.deepStrictEqual(output.select(0, 2), {
        chunks: [{ seq: 1, stream: "stdout", chunk: bytes("aa") }],
        cut: true
      })
      assert.deepStrictEqual(texts(output, 0, 5), ["1 stdout aa", "2 stdout bbb"])
      assert.isTrue(output.select(0, 5).cut)
      assert.deepStrictEqual(texts(output, 2, 0), ["4 stdout dddd"])
      assert.deepStrictEqual(texts(output, 1, 100), ["2 stdout bbb", "4 stdout dddd", "5 stdout e"])
    })
  )

  testHeadTail(
    "give way when the memory of all is short: first the end, then all of it, never with two gaps",
    20,
    20,
    (make) =>
      Effect.gen(function* () {
        const first = yield* make
        first.append(1, "stdout", bytes("aaaa"))
        first.append(2, "stdout", bytes("bbbbbbb"))
        const second = yield* make
        second.append(1, "stdout", bytes("xxxxxxxxxx"))
        assert.deepStrictEqual(texts(first), ["1 stdout aaaa"])
        first.append(3, "stdout", bytes("cc"))
        assert.deepStrictEqual(
          texts(first),
          ["1 stdout aaaa", "3 stdout cc"],
          "the beginning does not grow behind a gap"
        )
        second.append(2, "stdout", bytes("yyyyyyyyyy"))
        assert.deepStrictEqual(texts(first), [])
        assert.deepStrictEqual(first.omission("stdout"), { offset: 0, bytes: 13 })
      })
  )

  testHeadTail("the limit may be nothing at all", 0, 1000, (make) =>
    Effect.gen(function* () {
      const output = yield* make
      output.append(1, "stdout", bytes("a"))
      assert.deepStrictEqual(texts(output), [])
      assert.strictEqual(droppedBytes(output), 1)
      assert.isTrue(output.hasAfter(0))
    })
  )

  for (let seed = 1; seed <= 20; seed++) {
    const draw = random(seed)
    const below = (n: number) => Math.floor(draw() * n)
    const limit = 1 + below(300)
    testHeadTail(`against what was produced, seed ${seed}, limit ${limit}`, limit, 1e9, (make) =>
      Effect.gen(function* () {
        const output = yield* make
        const produced: Array<Chunk> = []
        for (let seq = 1; seq <= 200; seq++) {
          const chunk = { seq, stream: streams[below(3)] ?? "stdout", chunk: fill(1 + below(30), below(256)) }
          produced.push(chunk)
          output.append(seq, chunk.stream, chunk.chunk)
          const { chunks, cut } = output.select(0, everything)
          assert.isFalse(cut)
          const gap = chunks.findIndex((kept, index) => kept.seq !== index + 1)
          const head = gap === -1 ? chunks : chunks.slice(0, gap)
          const tail = gap === -1 ? [] : chunks.slice(gap)
          assert.deepStrictEqual(head, produced.slice(0, head.length))
          assert.deepStrictEqual(tail, produced.slice(produced.length - tail.length))
          const size = (all: ReadonlyArray<Chunk>) => all.reduce((sum, { chunk }) => sum + chunk.length, 0)
          assert.isAtMost(size(chunks), limit)
          const missing = produced.slice(head.length, produced.length - tail.length)
          assert.strictEqual(droppedBytes(output), size(missing))
          assert.strictEqual(truncated(output, 0), missing.length > 0)
          for (const stream of streams) {
            const of = (all: ReadonlyArray<Chunk>) => size(all.filter((one) => one.stream === stream))
            const expected = of(missing) === 0 ? undefined : { offset: of(head), bytes: of(missing) }
            assert.deepStrictEqual(output.omission(stream), expected)
          }
        }
      })
    )
  }
})

describe("the beginning and the end when memory is short", () => {
  testHeadTail("both give way at once, and what comes then is the end", 20, 20, (make) =>
    Effect.gen(function* () {
      const first = yield* make
      const second = yield* make
      for (let seq = 1; seq <= 4; seq++) first.append(seq, "stdout", fill(5))
      first.seal()
      second.append(1, "stdout", fill(10))
      assert.deepStrictEqual(first.gap(), { fromSeq: 1, throughSeq: 4, bytes: 20 })
      assert.deepStrictEqual(texts(first), [])
      first.append(5, "stdout", bytes("end"))
      assert.strictEqual(first.concat("stdout").toString(), "end")
      assert.deepStrictEqual(first.omission("stdout"), { offset: 0, bytes: 20 })
    })
  )

  testHeadTail("of a process that lives the oldest of the end gives way, and the beginning last", 20, 20, (make) =>
    Effect.gen(function* () {
      const first = yield* make
      const second = yield* make
      for (let seq = 1; seq <= 4; seq++) first.append(seq, "stdout", fill(5))
      second.append(1, "stdout", fill(5))
      assert.deepStrictEqual(first.gap(), { fromSeq: 3, throughSeq: 3, bytes: 5 })
      second.append(2, "stdout", fill(5))
      assert.deepStrictEqual(first.gap(), { fromSeq: 3, throughSeq: 4, bytes: 10 })
      second.append(3, "stdout", fill(5))
      assert.deepStrictEqual(first.gap(), { fromSeq: 1, throughSeq: 4, bytes: 20 })
      first.append(5, "stdout", bytes("end"))
      assert.deepStrictEqual(first.omission("stdout"), { offset: 0, bytes: 20 })
    })
  )

  for (const [limit, expected] of [
    [1600, 100],
    [160, 64]
  ] as const) {
    testHeadTail(`${expected} bytes are the largest piece of a chunk within ${limit}`, limit, 1e9, (make) =>
      Effect.map(make, ({ maxChunkBytes }) => assert.strictEqual(maxChunkBytes, expected))
    )
  }
})

describe("all processes", () => {
  test("what was released keeps nothing that is appended to it", 100, 100, (make) =>
    Effect.gen(function* () {
      const released = yield* make
      const other = yield* make
      other.append(1, "stdout", fill(50))
      released.append(1, "stdout", fill(50))
      released.release()
      released.append(2, "stdout", fill(100))
      assert.lengthOf(released.concat("stdout"), 0)
      assert.lengthOf(other.concat("stdout"), 50)
    })
  )

  test("what is dropped is counted", 10, 1000, (make) =>
    Effect.gen(function* () {
      const counted = () =>
        Metric.unsafeSnapshot()
          .filter(({ metricKey: { name, tags } }) => name === "exec_server_output_dropped_bytes_total" && !tags.length)
          .map(({ metricState }) => (metricState as unknown as { readonly count: number }).count)
      const output = yield* make
      output.append(1, "stdout", fill(11))
      const [before = 0] = counted()
      output.append(2, "stdout", fill(10))
      output.append(3, "stdout", fill(4))
      assert.deepStrictEqual(counted(), [before + 10])
    })
  )

  test("beyond the total, the oldest closed one gives way first, and only then those that live", 100, 100, (make) =>
    Effect.gen(function* () {
      const [live, older, newer, last] = [yield* make, yield* make, yield* make, yield* make]
      live.append(1, "stdout", fill(20))
      newer.append(1, "stdout", fill(20))
      older.append(1, "stdout", fill(20))
      older.seal()
      newer.seal()
      last.append(1, "stdout", fill(40))
      assert.deepStrictEqual(
        [live, older, newer].map((output) => droppedBytes(output)),
        [0, 0, 0]
      )
      last.append(2, "stdout", fill(20))
      assert.deepStrictEqual(
        [live, older, newer].map((output) => droppedBytes(output)),
        [0, 20, 0]
      )
      assert.isTrue(truncated(older, 0))
      last.append(3, "stdout", fill(20))
      assert.deepStrictEqual(
        [live, older, newer].map((output) => droppedBytes(output)),
        [0, 20, 20]
      )
      last.append(4, "stdout", fill(10))
      assert.isAbove(droppedBytes(live) + droppedBytes(last), 0)
      const retained = [live, last].flatMap((output) => output.select(0, everything).chunks)
      assert.isAtMost(
        retained.reduce((sum, { chunk }) => sum + chunk.length, 0),
        100
      )
    })
  )

  test("a process at its own limit gives way to itself: within the total nobody else does", 100, 200, (make) =>
    Effect.gen(function* () {
      const closed = yield* make
      closed.append(1, "stdout", fill(100))
      closed.seal()
      const live = yield* make
      for (let seq = 1; seq <= 30; seq++) live.append(seq, "stdout", fill(10))
      assert.strictEqual(droppedBytes(live), 200)
      assert.strictEqual(droppedBytes(closed), 0)
    })
  )

  test("what is released makes room", 100, 100, (make) =>
    Effect.gen(function* () {
      const first = yield* make
      first.append(1, "stdout", fill(100))
      first.seal()
      first.release()
      const second = yield* make
      const third = yield* make
      second.append(1, "stdout", fill(50))
      third.append(1, "stdout", fill(50))
      assert.deepStrictEqual([droppedBytes(second), droppedBytes(third)], [0, 0])
      third.append(2, "stdout", fill(1))
      assert.isAbove(droppedBytes(second) + droppedBytes(third), 0)
    })
  )
})

/** The obvious way to do it, for one process. */
class Model {
  chunks: Array<Chunk> = []
  dropped = 0
  lastDropped = 0
  constructor(private readonly limit: number) {}
  get size() {
    return this.chunks.reduce((sum, { chunk }) => sum + chunk.length, 0)
  }
  append(seq: number, stream: OutputStream, chunk: Buffer) {
    this.chunks.push({ seq, stream, chunk })
    while (this.size > this.limit) {
      const oldest = this.chunks.shift()
      this.dropped += oldest?.chunk.length ?? 0
      this.lastDropped = oldest?.seq ?? 0
    }
  }
  select(afterSeq: number, maxBytes: number) {
    const after = this.chunks.filter(({ seq }) => seq > afterSeq)
    const chunks: Array<Chunk> = []
    let total = 0
    for (const next of after) {
      if (chunks.length > 0 && total + next.chunk.length > maxBytes) break
      chunks.push(next)
      total += next.chunk.length
    }
    return { chunks, cut: chunks.length < after.length }
  }
  concat(stream: OutputStream) {
    return Buffer.concat(this.chunks.filter((chunk) => chunk.stream === stream).map(({ chunk }) => chunk))
  }
}

describe("against a naive model", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const draw = random(seed)
    const below = (n: number) => Math.floor(draw() * n)
    const limit = [1, 7, 64, 1000, 5000, 20_000][below(6)] ?? 1
    test(`seed ${seed}, limit ${limit}`, limit, 1e9, (make) =>
      Effect.gen(function* () {
        const output = yield* make
        const model = new Model(limit)
        let seq = 0
        for (let step = 0; step < 800; step++) {
          if (below(3) > 0) {
            seq += below(20) === 0 ? 2 : 1
            const largest = below(50) === 0 ? limit + 5 : Math.max(2, limit / 8)
            const chunk = Buffer.from(Array.from({ length: 1 + below(largest) }, () => below(256)))
            const stream = streams[below(3)] ?? "stdout"
            output.append(seq, stream, chunk)
            model.append(seq, stream, chunk)
          } else {
            const afterSeq = below(4) === 0 ? below(seq + 3) : Math.max(0, seq - below(12))
            const maxBytes = below(5) === 0 ? everything : below(limit + 2)
            const expected = model.select(afterSeq, maxBytes)
            assert.deepStrictEqual(output.select(afterSeq, maxBytes), expected)
            assert.strictEqual(truncated(output, afterSeq), model.lastDropped > afterSeq)
            assert.strictEqual(output.hasAfter(afterSeq), seq > afterSeq)
            assert.strictEqual(droppedBytes(output), model.dropped)
          }
        }
        for (const stream of streams) assert.isTrue(output.concat(stream).equals(model.concat(stream)))
      })
    )
  }

  for (let seed = 101; seed <= 110; seed++) {
    const draw = random(seed)
    const below = (n: number) => Math.floor(draw() * n)
    const perProcess = 50 + below(500)
    const total = 100 + below(1500)
    test(`many processes, seed ${seed}: ${perProcess} each, ${total} in all`, perProcess, total, (make) =>
      Effect.gen(function* () {
        interface Entry {
          readonly output: RetainedOutput
          readonly produced: Array<Chunk>
          seq: number
          sealed: boolean
        }
        let entries: Array<Entry> = []
        const kept = ({ output }: Entry) => output.select(0, everything).chunks
        const sizeOf = (entry: Entry) => kept(entry).reduce((sum, { chunk }) => sum + chunk.length, 0)
        for (let step = 0; step < 500; step++) {
          const entry = entries[below(entries.length)]
          const dice = below(100)
          if (entry === undefined || dice < 3) {
            entries.push({ output: yield* make, produced: [], seq: 0, sealed: false })
          } else if (dice < 5) {
            entry.output.seal()
            entry.sealed = true
          } else if (dice < 6) {
            entry.output.release()
            entries = entries.filter((other) => other !== entry)
          } else if (!entry.sealed) {
            const stream = streams[below(3)] ?? "stdout"
            const chunk = fill(1 + below(40), below(256))
            const chunkOf = { seq: ++entry.seq, stream, chunk }
            const closed = entries.filter((other) => other.sealed && sizeOf(other) > 0)
            const livingBefore = entries.filter((other) => !other.sealed && other !== entry).map(sizeOf)
            entry.output.append(chunkOf.seq, stream, chunk)
            entry.produced.push(chunkOf)
            const livingAfter = entries.filter((other) => !other.sealed && other !== entry).map(sizeOf)
            // No living process gives way while a closed one still has something.
            if (closed.some((other) => sizeOf(other) > 0)) assert.deepStrictEqual(livingAfter, livingBefore)
          }
          let sum = 0
          for (const each of entries) {
            const size = sizeOf(each)
            sum += size
            assert.isAtMost(size, perProcess)
            // The newest that was produced, whole, and what is missing is counted.
            const chunks = kept(each)
            assert.deepStrictEqual(chunks, each.produced.slice(each.produced.length - chunks.length))
            const produced = each.produced.reduce((bytes, { chunk }) => bytes + chunk.length, 0)
            assert.strictEqual(droppedBytes(each.output), produced - size)
          }
          assert.isAtMost(sum, total)
        }
      })
    )
  }
})
