/** Real children that tests start without a server. */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, writeSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Posix from "../../src/spawn/Posix.js"

/** A real child that leads its own session; it is gone when the test is. */
export const child = (program: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(program, args, { detached: true, stdio: "ignore" })),
    (running: ChildProcess) =>
      Effect.sync(() => {
        try {
          if (running.pid !== undefined) process.kill(-running.pid, "SIGKILL")
        } catch {
          // It has ended, as it should have.
        }
      })
  )

export const pidOf = ({ pid }: ChildProcess) => pid ?? Number.NaN

/** Pipes with bytes in them, on the lowest descriptors that are free: whoever reads one that it has closed gets these. */
export const withForeignBytes = Effect.acquireRelease(
  Effect.sync(() => {
    const pipes = Array.from({ length: 8 }, () => Posix.pipe())
    for (const [, input] of pipes) writeSync(input, "foreign")
    return pipes
  }),
  (pipes) =>
    Effect.sync(() => {
      for (const fd of pipes.flat()) closeSync(fd)
    })
)
