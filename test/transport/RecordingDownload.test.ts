/** Downloads of recordings whose client takes nothing, and permissions that end meanwhile. */
import { writeFileSync } from "node:fs"
import { IncomingMessage, ServerResponse } from "node:http"
import { Socket } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import type { Grant } from "../../src/session/Grant.js"
import * as RecordingStore from "../../src/session/RecordingStore.js"
import { answer } from "../../src/transport/RecordingDownload.js"
import { folder } from "../support/exposed.js"

const recordingId = "0123456789abcdef0123456789abcdef"

const header = JSON.stringify({
  version: 3,
  term: { cols: 80, rows: 24 },
  timestamp: 1,
  exec_server: { session: "s-1", processId: "p1", argv: ["true"] }
})

/** A download by a client that takes nothing: its response has no socket. */
const stalled = (events: number, grant: Partial<Grant> = {}) =>
  Effect.gen(function* () {
    const directory = yield* folder
    writeFileSync(join(directory, `${recordingId}.cast`), `${header}\n${'[0.1, "o", "hello"]\n'.repeat(events)}`)
    const store = yield* Effect.provide(RecordingStore.RecordingStore, RecordingStore.layer(directory))
    const request = new IncomingMessage(new Socket())
    const response = new ServerResponse(request)
    const operator: Grant = { id: "operator", role: "operator", ...grant }
    const fiber = yield* Effect.fork(answer(store, recordingId, operator, request, response))
    yield* Effect.promise(() => eventuallySent(response))
    return { fiber, response }
  })

/** Waits until as much is written as the response takes. */
const eventuallySent = async (response: ServerResponse) => {
  while (!response.writableEnded && !response.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** The status for a client's request of a recording of the subject `mine`. */
const statusFor = (grant: Grant) =>
  Effect.gen(function* () {
    const directory = yield* folder
    writeFileSync(join(directory, `${recordingId}.cast`), `${header}\n`)
    const store = yield* Effect.provide(RecordingStore.RecordingStore, RecordingStore.layer(directory))
    const earlier = store?.find(recordingId)
    assert.isDefined(earlier)
    if (store === undefined || earlier === undefined) return undefined
    const own = { ...store, find: () => ({ ...earlier, subject: "mine" }) }
    const response = new ServerResponse(new IncomingMessage(new Socket()))
    const fiber = yield* Effect.fork(answer(own, recordingId, grant, new IncomingMessage(new Socket()), response))
    yield* Effect.promise(() => eventuallySent(response))
    yield* Fiber.interrupt(fiber)
    return response.statusCode
  })

describe("a client without a role", () => {
  it.scoped("downloads what was recorded in its own sessions", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* statusFor({ id: "mine" }), 200)
      assert.strictEqual(yield* statusFor({ id: "another" }), 403)
      assert.strictEqual(yield* statusFor({ id: "mine", scope: { session: "s-1" } }), 403)
    })
  )
})

describe("a download", () => {
  for (const [what, events] of [
    ["all", 20_000],
    ["its end", 10]
  ] as const) {
    it.scoped(`ends if its client takes nothing, of ${what}, for 30 seconds`, () =>
      Effect.gen(function* () {
        const { fiber, response } = yield* stalled(events)
        yield* TestClock.adjust("29 seconds")
        assert.isFalse(response.destroyed)
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(fiber)
        assert.isTrue(response.destroyed)
      })
    )
  }

  it.scoped("ends when its token expires", () =>
    Effect.gen(function* () {
      const { fiber, response } = yield* stalled(20_000, { expiresAtMs: 10_000 })
      yield* TestClock.adjust("9 seconds")
      assert.isFalse(response.destroyed)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(fiber)
      assert.isTrue(response.destroyed)
    })
  )
})
