/** HTTP exchanges that the test answers, through a whole server, under its clock. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { type Answer, ScriptedHttp } from "../../src/testing/ScriptedHttp.js"
import { memoryServer } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { deltas, fetched, opened, refused, streamed } from "../support/upstream.js"

const answers: { readonly [path: string]: Answer } = {
  "/": { body: "hello", headers: [{ name: "a", value: "b" }] },
  "/slow": { status: 503, after: "1 second", body: "later" },
  "/refused": { failure: "connection refused" },
  "/drip": {
    body: [{ bytes: "one" }, { after: 500, bytes: "two" }],
    breaksWith: "the server went away"
  }
}

const http = ScriptedHttp.layer(({ url }) => answers[url.pathname])
const layer = Layer.merge(memoryServer(Layer.merge(http, FakeSpawner.layer)), http)

describe("scripted HTTP", () => {
  it.scoped("answers each request as it was told, when it was told", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const headers = [{ name: "a", value: "b" }]
      assert.deepStrictEqual(yield* fetched(client, "http://nowhere/"), { status: 200, headers, body: "hello" })

      const slow = yield* Effect.fork(fetched(client, "http://nowhere/slow"))
      yield* settle
      yield* TestClock.adjust(999)
      yield* settle
      assert.isNull(slow.unsafePoll())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(slow), { status: 503, headers: [], body: "later" })

      const failure = { code: -32603, message: "http/request failed: connection refused" }
      assert.deepStrictEqual(yield* refused(client, "http://nowhere/refused"), failure)
      const unknown = { code: -32603, message: "http/request failed: no answer to GET http://nowhere/else" }
      assert.deepStrictEqual(yield* refused(client, "http://nowhere/else"), unknown)

      const { requests } = yield* ScriptedHttp
      assert.deepStrictEqual(
        requests.map(({ url }) => url.pathname),
        ["/", "/slow", "/refused", "/else"]
      )
    }).pipe(Effect.provide(layer))
  )

  it.scoped("sends a body in pieces, and breaks off", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* opened(client, "http://nowhere/drip")
      yield* settle
      assert.lengthOf(deltas(client), 1)
      yield* TestClock.adjust(500)
      const { body, error } = yield* streamed(client)
      assert.deepStrictEqual([body.toString(), error], ["onetwo", "the server went away"])
    }).pipe(Effect.provide(layer))
  )
})
