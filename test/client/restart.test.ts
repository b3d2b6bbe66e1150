/** A process that is restarted, as its client sees it. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ExecClient from "../../src/client/ExecClient.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import * as Script from "../../src/testing/Script.js"
import { clientOf } from "../support/composed.js"
import { settle } from "../support/fake.js"

const plan = Script.plan([Script.output(10, "x"), Script.exit(20, 1)])
const layer = clientOf(FakeSpawner.layerOf(plan))

describe("a restarted process", () => {
  it.scoped("is one process to its client, with an event for each restart", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.ExecClient
      const restart = { policy: "always", maxRestarts: 2, withinMs: 60_000, backoffMs: 100, maxBackoffMs: 100 } as const
      const child = yield* client.start({ argv: ["program"], cwd: "/", restart })
      for (let i = 0; i < 60; i++) {
        yield* TestClock.adjust(10)
        yield* settle
      }
      const events = yield* Stream.runCollect(child.events)
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(events).map((event) =>
          event._tag === "Restarted"
            ? [event._tag, event.seq, event.attempt]
            : [event._tag, "seq" in event && event.seq]
        ),
        [
          ["Output", 1],
          ["Restarted", 2, 1],
          ["Output", 3],
          ["Restarted", 4, 2],
          ["Output", 5],
          ["Exited", 6],
          ["Closed", 7]
        ]
      )
      assert.strictEqual((yield* child.exit).exitCode, 1)
    }).pipe(Effect.provide(layer))
  )
})
