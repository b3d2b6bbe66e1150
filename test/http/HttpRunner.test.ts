/** A server whose requests go nowhere: `HttpRunner` is replaced. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { BodyEvents } from "../../src/http/Exchange.js"
import type { HttpRequest } from "../../src/http/HttpRequest.js"
import { HttpRunner, text } from "../../src/http/HttpRunner.js"
import { HttpFailed } from "../../src/protocol/Failure.js"
import { serverLayer, settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"
import { deltas, fetched, httpParams, opened, refused, streamed } from "../support/upstream.js"

const mocked = (title: string, run: HttpRunner["Type"]["run"], body: (client: TestClient) => Effect.Effect<unknown>) =>
  it.scoped(title, () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      yield* body(client)
    }).pipe(Effect.provide(serverLayer({}, {}, Layer.succeed(HttpRunner, { run }))))
  )

/** A body that the test has in its hands. */
const held = () => {
  const calls: Array<string> = []
  let events: BodyEvents | undefined
  const run: HttpRunner["Type"]["run"] = () =>
    Effect.as(
      Effect.addFinalizer(() => Effect.sync(() => calls.push("aborted"))),
      {
        status: 200,
        headers: [],
        body: {
          listen: (listener) => {
            calls.push("listened")
            events = listener
          },
          pause: () => calls.push("paused"),
          resume: () => calls.push("resumed")
        }
      }
    )
  return {
    run,
    calls,
    emit: (bytes: Buffer) => events?.onData(bytes),
    end: () => events?.onEnd(),
    fail: (reason: string) => events?.onError(reason)
  }
}

describe("a server with other means of making requests", () => {
  mocked(
    "answers with what they say",
    () => Effect.succeed(text(200, "ok", [{ name: "a", value: "b" }])),
    (client) =>
      Effect.gen(function* () {
        const headers = [{ name: "a", value: "b" }]
        assert.deepStrictEqual(yield* fetched(client, "http://nowhere/"), { status: 200, headers, body: "ok" })
        yield* opened(client, "http://nowhere/")
        assert.strictEqual((yield* streamed(client)).body.toString(), "ok")
        // The answer comes first, even if the body is there before it.
        const order = client.messages.map((message) => message.method ?? "answer")
        assert.deepStrictEqual(order.slice(-3), ["answer", "http/request/bodyDelta", "http/request/bodyDelta"])
      })
  )

  mocked(
    "fails as they fail",
    () => new HttpFailed({ message: "no network here" }),
    (client) =>
      Effect.gen(function* () {
        for (const streamResponse of [false, true]) {
          const error = yield* refused(client, "http://nowhere/", { streamResponse })
          assert.deepStrictEqual(error, { code: -32603, message: "no network here" })
        }
      })
  )

  const defective: Array<HttpRequest> = []
  mocked(
    "says nothing of a defect, and the name of the stream is free",
    (request) =>
      Effect.suspend(() => {
        defective.push(request)
        return Effect.dieMessage("secret")
      }),
    (client) =>
      Effect.gen(function* () {
        for (let i = 1; i <= 2; i++) {
          const error = yield* refused(client, "http://nowhere/", { streamResponse: true })
          assert.deepStrictEqual(error, { code: -32603, message: "internal error" })
          assert.lengthOf(defective, i)
        }
      })
  )

  const large = held()
  mocked("cuts what comes in one piece at 1 MiB", large.run, (client) =>
    Effect.gen(function* () {
      yield* opened(client, "http://nowhere/")
      yield* settle
      large.emit(Buffer.alloc(2 * 1048576 + 1, 7))
      large.end()
      const { body } = yield* streamed(client)
      assert.isTrue(body.equals(Buffer.alloc(2 * 1048576 + 1, 7)))
      assert.deepStrictEqual(
        deltas(client).map(({ deltaBase64 }) => Buffer.byteLength(deltaBase64, "base64")),
        [1048576, 1048576, 1, 0]
      )
      assert.deepStrictEqual(large.calls.at(-1), "aborted")
    })
  )

  for (const [name, streamResponse] of [
    ["streamed", true],
    ["not streamed", false]
  ] as const) {
    const other = held()
    mocked(`a body that is ${name} is held up while the client takes nothing`, other.run, (client) =>
      Effect.gen(function* () {
        const id = client.post("http/request", httpParams("http://nowhere/", { streamResponse }))
        yield* settle
        assert.deepStrictEqual(other.calls, ["listened"])
        // Answers to something else are enough: the client takes nothing of them.
        client.carrier.pause()
        other.emit(Buffer.alloc(1000))
        for (let i = 0; i < 500; i++) {
          client.raw(JSON.stringify({ id: `${i} ${"x".repeat(1000)}`, method: "environment/status" }))
        }
        yield* settle
        other.emit(Buffer.alloc(1000))
        assert.deepStrictEqual(other.calls, ["listened", "paused"])
        client.carrier.resume()
        yield* settle
        assert.deepStrictEqual(other.calls, ["listened", "paused", "resumed"])
        other.fail("broken")
        if (streamResponse)
          assert.deepStrictEqual(yield* streamed(client), { body: Buffer.alloc(2000), error: "broken" })
        else {
          const { error } = yield* client.reply(id)
          assert.strictEqual(error.message, "failed to read http/request response body: broken")
        }
        assert.strictEqual(other.calls.at(-1), "aborted")
      })
    )
  }

  const left = held()
  mocked("an exchange ends with its connection", left.run, (client) =>
    Effect.gen(function* () {
      yield* opened(client, "http://nowhere/")
      client.post("http/request", httpParams("http://nowhere/"))
      yield* settle
      assert.deepStrictEqual(left.calls, ["listened", "listened"])
      client.carrier.close()
      yield* client.ended()
      yield* settle
      assert.deepStrictEqual(left.calls, ["listened", "listened", "aborted", "aborted"])
    })
  )
})
