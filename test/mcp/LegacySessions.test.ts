/** Sessions of the older era over HTTP: how long they stay, and which gives way. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as LegacySessions from "../../src/mcp/LegacySessions.js"
import * as ProtocolServer from "../../src/mcp/ProtocolServer.js"
import { posting } from "../support/mcp.js"

const initialize = {
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "raw", version: "1" } }
}

const list = { jsonrpc: "2.0", id: 1, method: "tools/list" }

/** At most so many sessions, without any commands; each request ends with its answer. */
const sessions = (maxSessions: number) =>
  Effect.gen(function* () {
    const sdk = yield* ProtocolServer.loadSdk
    const maker = yield* ProtocolServer.maker(sdk)
    const makeServer = (call: ProtocolServer.Offer["call"]) =>
      maker({ sources: [{ id: "a", host: "a machine" }], tools: "exec", call })
    const answer = yield* LegacySessions.make({ sdk, makeServer, call: () => undefined, maxSessions })
    const ask = (subject: string, session: string | undefined, body: object, method = "POST") =>
      Effect.gen(function* () {
        const abort = new AbortController()
        const headers = { ...posting, ...(session === undefined ? {} : { "mcp-session-id": session }) }
        const request = new Request("http://localhost/mcp", { method, headers, signal: abort.signal })
        const answered = yield* answer({ subject, expiresAtMs: undefined }, request, body)
        // What listens is open until its client leaves.
        if (method === "GET") return { answered, leave: () => abort.abort() }
        yield* Effect.promise(() => answered.text())
        abort.abort()
        return { answered, leave: () => {} }
      })
    return {
      open: (subject: string) =>
        Effect.map(ask(subject, undefined, initialize), ({ answered }) => answered.headers.get("mcp-session-id") ?? ""),
      statusOf: (subject: string, session: string) =>
        Effect.map(ask(subject, session, list), ({ answered }) => answered.status),
      listen: (subject: string, session: string) => ask(subject, session, {}, "GET")
    }
  })

describe("a session", () => {
  it.scoped("ends half an hour after its last request, and not while its client listens", () =>
    Effect.gen(function* () {
      const { open, statusOf, listen } = yield* sessions(10)
      const [silent, busy, listening] = [yield* open("a"), yield* open("a"), yield* open("a")]
      const { leave } = yield* listen("a", listening)
      yield* TestClock.adjust("20 minutes")
      assert.strictEqual(yield* statusOf("a", busy), 200)
      yield* TestClock.adjust("20 minutes")
      assert.strictEqual(yield* statusOf("a", silent), 404)
      assert.strictEqual(yield* statusOf("a", busy), 200)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* statusOf("a", busy), 404)
      leave()
      yield* TestClock.adjust("20 minutes")
      assert.strictEqual(yield* statusOf("a", listening), 200)
      yield* TestClock.adjust("31 minutes")
      assert.strictEqual(yield* statusOf("a", listening), 404)
    })
  )

  it.scoped("gives way at the maximum: the one not used for longest, of the subject with the most", () =>
    Effect.gen(function* () {
      const { open, statusOf } = yield* sessions(3)
      const ofBob = yield* open("bob")
      const [first, second] = [yield* open("ann"), yield* open("ann")]
      assert.strictEqual(yield* statusOf("ann", first), 200)
      const third = yield* open("ann")
      assert.strictEqual(yield* statusOf("ann", second), 404)
      const again = yield* open("bob")
      assert.strictEqual(yield* statusOf("ann", first), 404)
      for (const [subject, session] of [
        ["bob", ofBob],
        ["bob", again],
        ["ann", third]
      ] as const) {
        assert.strictEqual(yield* statusOf(subject, session), 200)
      }
    })
  )
})
