/** Sessions that are kept for their clients, named, and taken over from lost connections. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import type * as Memory from "../../src/transport/Memory.js"
import { serverLayer, settle } from "../support/fake.js"
import { memoryClient, memoryLayer, stdioClient } from "../support/servers.js"
import { type Json, startParams } from "../support/TestClient.js"

const resumable = { resumeSessionId: null }

const limited = (changed: Partial<typeof SessionLimits.Service>) =>
  serverLayer().pipe(
    Layer.provide(
      Layer.effect(
        SessionLimits,
        Effect.map(SessionLimits, (limits) => ({ ...limits, ...changed }))
      )
    )
  )

/** A client that opens a session, and the session's id. */
const opened = (params: object = {}) =>
  Effect.gen(function* () {
    const client = yield* memoryClient
    const { sessionId } = yield* client.handshake({ ...resumable, ...params })
    return { client, sessionId }
  })

/** The reply to `initialize` on a new connection. */
const initialize = (params: object): Effect.Effect<Json, never, Scope.Scope | Memory.Connector> =>
  Effect.flatMap(memoryClient, (client) => client.call("initialize", { clientName: "test", ...params }))

describe("takeover", () => {
  it.scopedLive("closes the other connection, and goes on where its client stopped", () =>
    Effect.gen(function* () {
      const { client: first, sessionId } = yield* opened()
      yield* first.start("p", ["cat"], { pipeStdin: true })
      assert.strictEqual((yield* initialize({ resumeSessionId: sessionId })).error.code, -32010)
      const second = yield* memoryClient
      yield* second.handshake({ resumeSessionId: sessionId, takeover: true })
      assert.deepStrictEqual(yield* first.ended(), { code: 1008, reason: "the session was taken over" })
      second.knows("p")
      yield* second.write("p", "hello")
      yield* second.sees("p", "hello")
    }).pipe(Effect.provide(memoryLayer))
  )

  it.scopedLive("of a session that is detached, or of none, is a resumption, or fails as one", () =>
    Effect.gen(function* () {
      const { client, sessionId } = yield* opened()
      client.carrier.close()
      yield* client.ended()
      assert.strictEqual(
        (yield* initialize({ resumeSessionId: sessionId, takeover: true })).result.sessionId,
        sessionId
      )
      const unknown = yield* initialize({ resumeSessionId: "nope", takeover: true })
      assert.strictEqual(unknown.error.message, "unknown session id nope")
    }).pipe(Effect.provide(memoryLayer))
  )

  it.scopedLive("needs a session to take over", () =>
    Effect.gen(function* () {
      const { error } = yield* initialize({ resumeSessionId: null, takeover: true })
      assert.deepStrictEqual(error, { code: -32602, message: "`takeover` needs `resumeSessionId`" })
    }).pipe(Effect.provide(memoryLayer))
  )

  it.scopedLive("of a session that would end with its connection is refused", () =>
    Effect.gen(function* () {
      const first = yield* memoryClient
      const { sessionId } = yield* first.handshake({})
      yield* first.start("p", ["sleep", "100"])
      assert.strictEqual((yield* initialize({ resumeSessionId: sessionId, takeover: true })).error.code, -32010)
      assert.isTrue((yield* first.ask("process/list")).processes[0].running)
    }).pipe(Effect.provide(memoryLayer))
  )

  it.scopedLive("100 times in a row loses no byte and repeats none", () =>
    Effect.gen(function* () {
      const lines = 4000
      let { client, sessionId } = yield* opened()
      const script = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo line $i; done; read end`
      yield* client.sh("p", script, { pipeStdin: true })
      let seen = ""
      let seq = 0
      const take = (chunks: ReadonlyArray<Json>) => {
        for (const { chunk, seq: at } of chunks) {
          if (at <= seq) continue
          seq = at
          seen += Buffer.from(chunk, "base64")
        }
      }
      for (let cut = 0; cut < 100; cut++) {
        take((yield* client.ask("process/read", { processId: "p", afterSeq: seq, waitMs: 5, maxBytes: 400 })).chunks)
        const next = yield* memoryClient
        yield* next.handshake({ resumeSessionId: sessionId, takeover: true })
        next.knows("p")
        client = next
      }
      while (!seen.endsWith(`line ${lines}\n`)) {
        take((yield* client.ask("process/read", { processId: "p", afterSeq: seq, waitMs: 1000 })).chunks)
      }
      assert.strictEqual(seen, Array.from({ length: lines }, (_, i) => `line ${i + 1}\n`).join(""))
    }).pipe(Effect.provide(memoryLayer))
  )
})

describe("sessionTtlMs", () => {
  /** Whether a session can still be resumed so long after its connection was lost. */
  const isThere = (params: object, afterMs: number, again: object = {}) =>
    Effect.gen(function* () {
      const { client, sessionId } = yield* opened(params)
      client.carrier.close()
      yield* client.ended()
      yield* settle
      if ("sessionTtlMs" in again) {
        const second = yield* memoryClient
        yield* second.handshake({ resumeSessionId: sessionId, ...again })
        second.carrier.close()
        yield* second.ended()
        yield* settle
      }
      yield* TestClock.adjust(afterMs)
      yield* settle
      const { error } = yield* initialize({ resumeSessionId: sessionId })
      return error === undefined
    })

  it.scoped("is how long the session waits for its client", () =>
    Effect.gen(function* () {
      assert.isFalse(yield* isThere({}, 30_001))
      assert.isTrue(yield* isThere({ sessionTtlMs: 60_000 }, 59_999))
      assert.isFalse(yield* isThere({ sessionTtlMs: 60_000 }, 60_001))
      assert.isFalse(yield* isThere({ sessionTtlMs: 0 }, 1))
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("of null keeps the session until it is ended, longer than any timer", () =>
    Effect.gen(function* () {
      assert.isTrue(yield* isThere({ sessionTtlMs: null }, 2 ** 33))
      assert.isTrue(yield* isThere({ sessionTtlMs: 2 ** 32 }, 2 ** 32 - 1))
      assert.isFalse(yield* isThere({ sessionTtlMs: 2 ** 32 }, 2 ** 32 + 1))
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("is changed by a resumption that has one, and by no other", () =>
    Effect.gen(function* () {
      assert.isTrue(yield* isThere({}, 59_000, { sessionTtlMs: 60_000 }))
      assert.isFalse(yield* isThere({ sessionTtlMs: null }, 1001, { sessionTtlMs: 1000 }))
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("is refused above maxSessionTtlMs, which it names", () =>
    Effect.gen(function* () {
      assert.isUndefined((yield* initialize({ ...resumable, sessionTtlMs: 60_000 })).error)
      for (const sessionTtlMs of [60_001, null]) {
        const { error } = yield* initialize({ ...resumable, sessionTtlMs })
        assert.deepStrictEqual(error, {
          code: -32600,
          message: "sessionTtlMs may be at most 60000 (maxSessionTtlMs)"
        })
      }
    }).pipe(Effect.provide(limited({ maxSessionTtlMs: 60_000 })))
  )

  it.scoped("alone makes a client one of the session dialect: the session waits", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      const { sessionId } = yield* client.handshake({ sessionTtlMs: 1000 })
      client.carrier.close()
      yield* client.ended()
      yield* settle
      assert.isUndefined((yield* initialize({ resumeSessionId: sessionId })).error)
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scopedLive("is refused on stdio, where the session ends with its connection", () =>
    Effect.gen(function* () {
      const { client } = yield* stdioClient()
      const { error } = yield* client.call("initialize", { clientName: "test", ...resumable, sessionTtlMs: 1000 })
      assert.deepStrictEqual(error, {
        code: -32600,
        message: "sessionTtlMs: a session ends with its connection on this transport"
      })
      // Which is what 0 asks for.
      assert.isUndefined(
        (yield* client.call("initialize", { clientName: "test", ...resumable, sessionTtlMs: 0 })).error
      )
    })
  )
})

describe("the name of a session", () => {
  it.scoped("is its own until the session has ended, and can be given later", () =>
    Effect.gen(function* () {
      const { client, sessionId } = yield* opened({ name: "build" })
      const taken = yield* initialize({ ...resumable, name: "build" })
      assert.deepStrictEqual(taken.error, {
        code: -32600,
        message: "another session has the name build; resume or end it, or choose another name"
      })
      client.carrier.close()
      yield* client.ended()
      yield* settle
      assert.isDefined((yield* initialize({ ...resumable, name: "build" })).error)
      const again = yield* memoryClient
      yield* again.handshake({ resumeSessionId: sessionId, name: "build" })
      again.carrier.close()
      yield* again.ended()
      yield* settle
      yield* TestClock.adjust(30_001)
      yield* settle
      assert.isUndefined((yield* initialize({ ...resumable, name: "build" })).error)
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("is a word that can be typed", () =>
    Effect.gen(function* () {
      for (const name of ["", "-x", "a b", "a/b", "x".repeat(65), "ä", "a\n"]) {
        const { error } = yield* initialize({ ...resumable, name })
        assert.strictEqual(error?.code, -32602, JSON.stringify(name))
      }
      for (const name of ["a", "0", "a.b_C-9", "x".repeat(64)]) {
        assert.isUndefined((yield* initialize({ ...resumable, name })).error, name)
      }
    }).pipe(Effect.provide(serverLayer()))
  )
})

describe("a process of a session that was taken over", () => {
  it.scopedLive("takes the writes of its new client alone", () =>
    Effect.gen(function* () {
      const { client: first, sessionId } = yield* opened()
      yield* first.ask("process/start", startParams("p", ["cat"], { pipeStdin: true }))
      const second = yield* memoryClient
      yield* second.handshake({ resumeSessionId: sessionId, takeover: true })
      second.knows("p")
      yield* first.ended()
      first.post("process/write", { processId: "p", chunk: "b2xkCg==" })
      yield* second.write("p", "new\n")
      assert.strictEqual(yield* second.sees("p", "new\n"), "new\n")
    }).pipe(Effect.provide(memoryLayer))
  )
})
