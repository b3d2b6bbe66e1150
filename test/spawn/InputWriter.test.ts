/** Input that is not taken at once: on a pipe, which is full and empty when the test wants it. */
import { Buffer } from "node:buffer"
import { closeSync, constants, openSync, readdirSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as InputWriter from "../../src/spawn/InputWriter.js"
import * as Posix from "../../src/spawn/Posix.js"
import { ReadBuffer } from "../../src/spawn/ReadBuffer.js"
import { fill, settle } from "../support/fake.js"
import { eventually } from "../support/servers.js"

/** What a pipe holds, in bytes. */
const pipeBytes = 65536

/** A writer, and what comes out at the other end. */
const piped = Effect.acquireRelease(
  Effect.sync(() => {
    const ends = Posix.pipe()
    const open = (fd: number, mode: number) => openSync(`/proc/self/fd/${fd}`, mode | constants.O_NONBLOCK)
    const [output, input] = [open(ends[0], constants.O_RDONLY), open(ends[1], constants.O_WRONLY)]
    for (const fd of ends) closeSync(fd)
    const writer = InputWriter.make(input)
    const descriptors = new Set([output, input])
    const hangUp = () => {
      descriptors.delete(output)
      closeSync(output)
    }
    const read = () => {
      const chunks: Array<Buffer> = []
      new ReadBuffer().drain(output, (bytes) => chunks.push(Buffer.from(bytes)))
      return Buffer.concat(chunks).toString()
    }
    return { ...writer, read, hangUp, closeAll: () => descriptors.forEach(closeSync) }
  }),
  ({ close, closeAll }) =>
    Effect.sync(() => {
      close()
      closeAll()
    })
)

const openDescriptors = () => readdirSync("/proc/self/fd").length

describe("a writer", () => {
  it.scopedLive("knows to the byte what was not taken", () =>
    Effect.gen(function* () {
      const { write, unsent, read } = yield* piped
      const rest = () => Buffer.concat(unsent()).toString()
      write(Buffer.concat([fill(pipeBytes), Buffer.from("cd")]), () => {})
      write(Buffer.from(""), () => {})
      write(Buffer.from("ef"), () => {})
      assert.strictEqual(rest(), "cdef")
      assert.lengthOf(read(), pipeBytes)
      yield* eventually("all is taken", () => rest() === "")
    })
  )

  it.scopedLive("writes at once what is taken, and goes on in order when there is room again", () =>
    Effect.gen(function* () {
      const { write, read } = yield* piped
      const done: Array<string> = []
      write(Buffer.from("first"), () => done.push("first"))
      assert.deepStrictEqual(done, ["first"])
      assert.strictEqual(read(), "first")
      write(fill(pipeBytes + 3), () => done.push("second"))
      write(Buffer.from("ab"), () => done.push("third"))
      write(Buffer.from("c"), () => done.push("fourth"))
      assert.deepStrictEqual(done, ["first"])
      assert.lengthOf(read(), pipeBytes)
      yield* eventually("the others are taken", () => done.length === 4)
      assert.deepStrictEqual(done, ["first", "second", "third", "fourth"])
      assert.strictEqual(read(), "xxxabc")
    })
  )

  it.scopedLive("takes as many writes as follow from one another", () =>
    Effect.gen(function* () {
      const { write, read } = yield* piped
      let left = 30_000
      const next = () => {
        if (left-- > 0) write(Buffer.from("x"), next)
      }
      next()
      assert.lengthOf(read(), 30_000)
    })
  )

  it.scopedLive("waits once, however much is written meanwhile, and no more when it is closed", () =>
    Effect.gen(function* () {
      const { write, read, close } = yield* piped
      const before = openDescriptors()
      for (let i = 0; i < 20; i++) write(fill(pipeBytes), () => {})
      // Waiting takes a descriptor of its own.
      assert.strictEqual(openDescriptors(), before + 1)
      close()
      yield* eventually("it does not wait any more", () => openDescriptors() === before)
      assert.lengthOf(read(), pipeBytes)
      write(Buffer.from("late"), () => assert.fail("it is closed"))
      for (let turn = 0; turn < 20; turn++) yield* settle
      assert.strictEqual(read(), "")
    })
  )

  it.scopedLive("gives up when the other end is gone", () =>
    Effect.gen(function* () {
      const { write, hangUp } = yield* piped
      write(fill(pipeBytes), () => {})
      write(Buffer.from("x"), () => assert.fail("nobody has taken it"))
      hangUp()
      const before = openDescriptors()
      yield* eventually("it does not wait any more", () => openDescriptors() === before - 1)
      write(Buffer.from("late"), () => assert.fail("nobody has taken it"))
      assert.strictEqual(openDescriptors(), before - 1)
    })
  )
})
