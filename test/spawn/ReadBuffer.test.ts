/** What is left in a descriptor when nobody waits for more. */
import { Buffer } from "node:buffer"
import { closeSync, constants, openSync, writeSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Posix from "../../src/spawn/Posix.js"
import { ReadBuffer } from "../../src/spawn/ReadBuffer.js"

const drained = (fd: number) => {
  const chunks: Array<Buffer> = []
  const ended = new ReadBuffer().drain(fd, (bytes) => chunks.push(Buffer.from(bytes)))
  return { ended, bytes: Buffer.concat(chunks) }
}

/** A non-blocking descriptor to read from, and the other end of it. */
const pipe = Effect.acquireRelease(
  Effect.sync(() => {
    const [readEnd, writeEnd] = Posix.pipe()
    const output = openSync(`/proc/self/fd/${readEnd}`, constants.O_RDONLY | constants.O_NONBLOCK)
    closeSync(readEnd)
    return { output, open: new Set([output, writeEnd]), input: writeEnd }
  }),
  ({ open }) =>
    Effect.sync(() => {
      for (const fd of open) closeSync(fd)
    })
)

describe("a descriptor that is drained", () => {
  it.scoped("gives what it holds, and says whether there can be more", () =>
    Effect.gen(function* () {
      const { output, input, open } = yield* pipe
      assert.deepStrictEqual(drained(output), { ended: false, bytes: Buffer.alloc(0) })
      writeSync(input, "one")
      assert.deepStrictEqual(drained(output), { ended: false, bytes: Buffer.from("one") })
      writeSync(input, "two")
      open.delete(input)
      closeSync(input)
      assert.deepStrictEqual(drained(output), { ended: true, bytes: Buffer.from("two") })
    })
  )

  it("has ended when it cannot be read", () => {
    const folder = openSync("/", constants.O_RDONLY)
    assert.deepStrictEqual(drained(folder), { ended: true, bytes: Buffer.alloc(0) })
    closeSync(folder)
  })

  it("that never ends is left after a megabyte", () => {
    const endless = openSync("/dev/zero", constants.O_RDONLY)
    const { ended, bytes } = drained(endless)
    closeSync(endless)
    assert.isFalse(ended)
    assert.isAtLeast(bytes.length, 1048576)
    assert.isBelow(bytes.length, 2 * 1048576)
  })
})
