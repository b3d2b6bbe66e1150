/** What a request on files reads at most, and what it takes of the room for answers. */
import { Buffer, constants } from "node:buffer"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { FileSystem, type Files } from "../../src/filesystem/FileSystem.js"
import type { OpenFile } from "../../src/filesystem/OpenFile.js"
import { memoryServer } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"

/** A client of a server whose files are all this one. */
const clientOf = (file: Partial<OpenFile>) => {
  const open: Files["open"] = () =>
    Effect.succeed({
      size: 0,
      readAll: () => Effect.dieMessage("it is read"),
      read: () => Effect.dieMessage("a block is read"),
      write: () => Effect.dieMessage("it is written"),
      ...file
    })
  return Effect.gen(function* () {
    const built = yield* Layer.build(memoryServer(Layer.mock(FileSystem, { open, isConfinable: false })))
    const client = yield* Effect.provide(memoryClient, built)
    yield* client.handshake()
    return client
  })
}

it.scopedLive("a file is read up to what a message of the transport has room for", () =>
  Effect.gen(function* () {
    const limits: Array<number> = []
    const readAll: OpenFile["readAll"] = (limit) => Effect.sync(() => Buffer.alloc(limits.push(limit)))
    const client = yield* clientOf({ readAll })
    yield* client.ask("fs/readFile", { path: "/a" })
    const [limit = 0] = limits
    // In base64, in one string.
    assert.isAtMost((limit / 3) * 4, constants.MAX_STRING_LENGTH)
    assert.isAbove((limit / 3) * 4, constants.MAX_STRING_LENGTH - 100_000)
  })
)

for (const [what, size, atOnce] of [
  ["small files are read at a time: each takes the room of its own bytes alone", 1000, 3],
  ["large files are read one after another", 8_000_000, 1]
] as const) {
  it.scopedLive(what, () =>
    Effect.gen(function* () {
      let reading = 0
      const readAll = () =>
        Effect.suspend(() => {
          reading++
          return Effect.never
        })
      const client = yield* clientOf({ size, readAll })
      for (let count = 0; count < 3; count++) client.post("fs/readFile", { path: "/a" })
      yield* settle
      assert.strictEqual(reading, atOnce)
    })
  )
}
