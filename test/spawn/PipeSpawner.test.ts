/** Real children on pipes, at the moments that cannot be met from outside at will. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ExitStatus } from "../../src/spawn/Child.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { eventually, isAlive } from "../support/servers.js"

describe("a child that has exited before anybody listens", () => {
  it.scopedLive("takes no input: a write before that fails for itself, and the end of stdin is told", () =>
    Effect.gen(function* () {
      const { spawn } = yield* Spawner
      const child = yield* spawn({ argv: ["/bin/true"], cwd: "/", env: {}, io: { _tag: "Pipe", stdin: true } })
      yield* eventually("it has exited", () => !isAlive(child.pid))
      child.write(Buffer.from("nobody reads this"), () => assert.fail("nobody has taken it"))
      // The error of the write comes in a later turn of the event loop.
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const told: Array<string> = []
      let status: ExitStatus | undefined
      child.listen({
        onOutput: () => told.push("output"),
        onOutputEnd: () => told.push("outputEnd"),
        onStdinClosed: () => told.push("stdinClosed"),
        onExit: (exit) => {
          told.push("exit")
          status = exit
        }
      })
      yield* eventually("all is told", () => told.length === 3)
      assert.sameMembers(told, ["exit", "outputEnd", "stdinClosed"])
      assert.deepStrictEqual(status, ExitStatus.Exited({ code: 0 }))
    }).pipe(Effect.provide(Spawner.layer))
  )
})
