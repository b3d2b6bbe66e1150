/** One client that leaves many large requests without an answer, and others. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { base64 } from "../support/files.js"
import { webSocketServer } from "../support/servers.js"

it.scopedLive("requests without an answer have a limit for all connections: beyond it they are refused by name", () =>
  Effect.gen(function* () {
    const server = yield* webSocketServer({
      args: ["--request-bytes-total", "1000000", "--stdin-queue-bytes-per-process", "1000"]
    })
    const greedy = yield* server.connect
    yield* greedy.handshake()
    yield* greedy.sh("p", "sleep 60", { pipeStdin: true })
    const chunk = base64(Buffer.alloc(100_000))
    const writes = yield* Effect.forEach(
      Array.from({ length: 20 }, (_, i) => i),
      (i) => Effect.fork(greedy.call("process/write", { processId: "p", chunk, writeId: `w${i}` }))
    )
    const status = yield* greedy.ask("environment/status")
    assert.deepStrictEqual(status, { status: "ready" })
    const other = yield* server.connect
    yield* other.handshake()
    assert.deepStrictEqual(yield* other.ask("environment/status"), { status: "ready" })
    yield* other.sh("q", "cat", { pipeStdin: true })
    // Small enough for a connection that has no others.
    const write = (bytes: number) =>
      other.call("fs/writeFile", { path: "/missing/x", dataBase64: base64(Buffer.alloc(bytes)) })
    assert.strictEqual((yield* write(100_000)).error.code, -32004)
    assert.match((yield* write(600_000)).error.message, /requestBytesTotal/)
    yield* greedy.ask("process/terminate", { processId: "p" })
    const answers = yield* Effect.forEach(writes, (fiber) => fiber.await.pipe(Effect.flatten))
    const refused = answers.filter(({ error }) => error !== undefined)
    assert.isAbove(refused.length, 5)
    assert.isBelow(refused.length, 20)
    for (const { error } of refused) {
      assert.strictEqual(error.code, -32600)
      assert.match(error.message, /^the limit requestBytesTotal \(1000000\) is reached; /)
    }
    // What was given back can be used again.
    assert.strictEqual((yield* write(600_000)).error.code, -32004)
  })
)
