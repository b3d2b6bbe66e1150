/** A client with a window loses no output to a slow reader, and its other processes go on meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ClientError } from "../../src/client/ClientError.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import { realSessions } from "../support/composed.js"
import { webSocketServer } from "../support/servers.js"

const capabilities = { outputWindow: 131_072 }

const clients: Record<string, Effect.Effect<ExecClient.Shape, ClientError, Scope.Scope>> = {
  "in process": Effect.flatMap(Layer.build(realSessions), (server) =>
    Effect.provide(ExecClient.connectInProcess({ capabilities }), server)
  ),
  "on a WebSocket": Effect.flatMap(webSocketServer(), ({ url }) => ExecClient.connectWebSocket({ url, capabilities }))
}

/** More than the client and the server keep together. */
const bytes = 24_000_000

describe.each(Object.entries(clients))("%s", (_, connect) => {
  it.scopedLive("a process waits for its slow reader, and no other does", () =>
    Effect.gen(function* () {
      const client = yield* connect
      assert.strictEqual(client.capabilities.outputWindow, capabilities.outputWindow)
      const options = { cwd: "/", env: { PATH: "/usr/bin:/bin" } }
      const loud = yield* client.start({ ...options, argv: ["head", "-c", String(bytes), "/dev/zero"] })
      let read = 0
      let others = 0
      yield* Stream.runForEach(loud.events, (event) =>
        Effect.gen(function* () {
          assert.notStrictEqual(event._tag, "Missed")
          if (event._tag !== "Output") return
          read += event.chunk.length
          if (read < (others * bytes) / 4) return
          others++
          const other = yield* client.start({ ...options, argv: ["sleep", "0.1"] })
          yield* other.closed
        })
      )
      assert.strictEqual(read, bytes)
      assert.isAbove(others, 3)
    })
  )

  it.scopedLive("what nobody reads does not stop its process", () =>
    Effect.gen(function* () {
      const client = yield* connect
      const argv = ["head", "-c", String(bytes), "/dev/zero"]
      const loud = yield* client.start({ argv, cwd: "/", env: { PATH: "/usr/bin:/bin" } })
      assert.strictEqual((yield* loud.closed).exitCode, 0)
    })
  )
})
