/** A real process is recorded once, written down, and played again. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as HeadTail from "../../src/client/HeadTail.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import * as Recording from "../../src/testing/Recording.js"
import { clientOf } from "../support/composed.js"

const script = "printf out; sleep 0.2; printf err >&2; exec 1>&- 2>&-; kill -9 $$"

const run = Effect.gen(function* () {
  const client = yield* ExecClient.ExecClient
  const child = yield* client.start({ argv: ["/bin/sh", "-c", script], cwd: "/" })
  const { exit, stdout, stderr } = yield* child.communicate()
  return [exit.exitCode, exit.signal, HeadTail.bytesOf(stdout).toString(), HeadTail.bytesOf(stderr).toString()]
})

describe("a recorded process", () => {
  it.live("says the same again, without a process", () =>
    Effect.gen(function* () {
      const recorder = Recording.Recorder.layer.pipe(Layer.provide(Spawner.layer))
      const [recorded, json] = yield* Effect.gen(function* () {
        const result = yield* run
        const [recording] = yield* (yield* Recording.Recorder).recordings
        if (recording === undefined) return yield* Effect.dieMessage("nothing was recorded")
        return [result, yield* Schema.encode(Recording.Json)(recording)] as const
      }).pipe(Effect.provide(Layer.merge(clientOf(recorder), recorder)), Effect.scoped)
      assert.deepStrictEqual(recorded, [137, "SIGKILL", "out", "err"])

      const recording = yield* Schema.decode(Recording.Json)(json)
      assert.deepStrictEqual(recording.argv, ["/bin/sh", "-c", script])
      const late = recording.reports.find((report) => report.kind === "output" && report.stream === "stderr")
      assert.isAtLeast(late?.atMs ?? 0, 100)
      const replayed = yield* run.pipe(
        Effect.provide(clientOf(FakeSpawner.layerOf(Recording.plan(recording)))),
        Effect.scoped
      )
      assert.deepStrictEqual(replayed, recorded)
    })
  )

  it.scoped("is played by the test's clock", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.ExecClient
      const child = yield* client.start({ argv: ["program"], cwd: "/" })
      yield* TestClock.adjust(99)
      assert.isUndefined((yield* child.wait({ duration: 0 })).exit)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* child.closed).exitCode, 4)
    }).pipe(
      Effect.provide(
        clientOf(
          FakeSpawner.layerOf(
            Recording.plan({
              argv: ["program"],
              reports: [
                { kind: "outputEnd", atMs: 50 },
                { kind: "exited", atMs: 100, code: 4 }
              ]
            })
          )
        )
      )
    )
  )
})
