/** One client cannot take the memory that the server needs for others. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { asks, upgrade } from "../support/raw.js"
import { eventually, rawSocket, residentMb, webSocketServer } from "../support/servers.js"

const mb = 2 ** 20

describe("the memory of a server", () => {
  it.scopedLive(
    "is not taken by input that no process reads: writes beyond the limit are refused, and others go on",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer()
        const other = yield* server.connect
        yield* other.handshake()
        const client = yield* server.connect
        yield* client.handshake()
        const before = residentMb(server.pid)
        const chunk = Buffer.alloc(4 * mb).toString("base64")
        const refusals = yield* Effect.forEach(
          Array.from({ length: 80 }, (_, i) => `p${i}`),
          (processId) =>
            Effect.gen(function* () {
              yield* client.start(processId, ["sleep", "60"], { pipeStdin: true })
              return (yield* client.call("process/write", { processId, chunk })).error
            })
        )
        const refused = refusals.filter((error) => error !== undefined)
        assert.isAtLeast(refused.length, 60)
        for (const { code, message } of refused) {
          assert.strictEqual(code, -32600)
          assert.include(message, "the limit processBytesPerSession (67108864) is reached")
        }
        yield* other.sh("p", "cat", { pipeStdin: true })
        assert.strictEqual((yield* other.write("p", "hello")).result.status, "accepted")
        yield* other.sees("p", "hello")
        assert.isBelow(residentMb(server.pid) - before, 250)
      }),
    120_000
  )

  it.scopedLive(
    "is not taken by messages that never end: the largest are cut off, and others go on",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args: ["--unfinished-message-bytes-total", String(64 * mb)] })
        const client = yield* server.connect
        yield* client.handshake()
        const before = residentMb(server.pid)
        const head = Buffer.from([0x01, 0xff, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0])
        const half = Buffer.alloc(32 * mb, 0x20)
        const sockets = yield* Effect.forEach(Array(12), () => rawSocket(server.url))
        for (const socket of sockets) {
          yield* asks(socket, upgrade())
          socket.write(head)
          socket.write(half)
        }
        yield* eventually(
          "all but those that fit are cut off",
          () => sockets.filter((s) => !s.destroyed).length <= 2,
          60_000
        )
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
        // 384 MB were sent; some of what was cut off is garbage that is not collected yet.
        assert.isBelow(residentMb(server.pid) - before, 340)
      }),
    120_000
  )

  it.scopedLive(
    "is not taken by many connections that send such messages one after another",
    () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args: ["--unfinished-message-bytes-total", String(32 * mb)] })
        const client = yield* server.connect
        yield* client.handshake()
        const before = residentMb(server.pid)
        const head = Buffer.from([0x01, 0xff, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0])
        const part = Buffer.alloc(8 * mb, 0x20)
        const sockets = yield* Effect.forEach(Array(80), () => rawSocket(server.url))
        for (const socket of sockets) {
          yield* asks(socket, upgrade())
          socket.write(head)
          socket.write(part)
        }
        yield* eventually(
          "all but those that fit are cut off",
          () => sockets.filter((s) => !s.destroyed).length <= 4,
          60_000
        )
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
        // 640 MB were sent. What was cut off is not kept for a second.
        assert.isBelow(residentMb(server.pid) - before, 250)
      }),
    120_000
  )
})
