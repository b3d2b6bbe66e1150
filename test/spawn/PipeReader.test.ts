/** Pipes of much output are made larger, so many of them and no more, and what comes through them stays whole. */
import { Buffer } from "node:buffer"
import { closeSync, constants, openSync, writeSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { largePipeBytes, maxLargePipes, PipeReader } from "../../src/spawn/PipeReader.js"
import * as Posix from "../../src/spawn/Posix.js"
import { maxChunkBytes } from "../../src/spawn/ReadBuffer.js"
import { eventually } from "../support/servers.js"

const usualBytes = 65536

/** A pipe that is read, and a non-blocking end to write to. */
const pipe = (reader: PipeReader) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const [readEnd, writeEnd] = Posix.pipe()
      const input = openSync(`/proc/self/fd/${writeEnd}`, constants.O_WRONLY | constants.O_NONBLOCK)
      closeSync(writeEnd)
      const chunks: Array<Buffer> = []
      const socket = reader.read(readEnd, (bytes) => chunks.push(Buffer.from(bytes)))
      const period = Buffer.from(Array.from({ length: usualBytes }, (_, i) => i % 251))
      let written = 0
      return {
        socket,
        isWhole: () => {
          const copies = Array.from({ length: Math.ceil(written / usualBytes) }, () => period)
          return Buffer.concat(chunks).equals(Buffer.concat(copies, written))
        },
        lengths: () => chunks.map(({ length }) => length),
        /** Writes as much as there is room for; tells how much it was. */
        fill: () => {
          const before = written
          try {
            for (;;) written += writeSync(input, period, written % usualBytes)
          } catch {
            return written - before
          }
        },
        allRead: eventually("all is read", () => chunks.reduce((sum, { length }) => sum + length, 0) === written),
        close: () => closeSync(input)
      }
    }),
    ({ socket, close }) =>
      Effect.async<void>((resume) => {
        close()
        if (socket.closed) resume(Effect.void)
        else socket.once("close", () => resume(Effect.void)).destroy()
      })
  )

type Pipe = Effect.Effect.Success<ReturnType<typeof pipe>>

/** Fills it and lets it be read, often enough; gives what it took each time. */
const fillOften = ({ fill, allRead }: Pipe, times = 10) =>
  Effect.all(Array.from({ length: times }, () => Effect.tap(Effect.sync(fill), allRead)))

describe("a pipe that is read", () => {
  it.scopedLive("is made larger when it was found full again and again, and loses nothing", () =>
    Effect.gen(function* () {
      const much = yield* pipe(new PipeReader())
      const sizes = yield* fillOften(much)
      assert.strictEqual(sizes[0], usualBytes)
      assert.strictEqual(sizes.at(-1), largePipeBytes)
      assert.isTrue(much.lengths().every((length) => length <= maxChunkBytes))
      assert.isTrue(much.isWhole())
    })
  )

  it.scopedLive("is left as it is when it was full a few times only", () =>
    Effect.gen(function* () {
      const little = yield* pipe(new PipeReader())
      assert.deepStrictEqual(yield* fillOften(little, 7), Array(7).fill(usualBytes))
      assert.strictEqual(little.fill(), usualBytes)
    })
  )

  it.scopedLive("stays small while there are enough large ones, until one of those is closed", () =>
    Effect.gen(function* () {
      const reader = new PipeReader()
      const others = yield* Effect.all(Array.from({ length: maxLargePipes }, () => pipe(reader)))
      const sizes = yield* Effect.forEach(others, (other) => fillOften(other), { concurrency: "unbounded" })
      assert.isTrue(sizes.every((each) => each.at(-1) === largePipeBytes))
      const last = yield* pipe(reader)
      assert.strictEqual((yield* fillOften(last)).at(-1), usualBytes)
      const ofAnotherServer = yield* pipe(new PipeReader())
      assert.strictEqual((yield* fillOften(ofAnotherServer)).at(-1), largePipeBytes)
      others[0]?.socket.destroy()
      yield* eventually("one is closed", () => others[0]?.socket.closed === true)
      assert.strictEqual((yield* fillOften(last)).at(-1), largePipeBytes)
    })
  )
})
