/** Real children that tests start without a server. */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"

/** A real child that leads its own session. It ends with the scope. */
export const child = (program: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(program, args, { detached: true, stdio: "ignore" })),
    (running: ChildProcess) =>
      Effect.sync(() => {
        try {
          if (running.pid !== undefined) process.kill(-running.pid, "SIGKILL")
        } catch {
          // It has ended already, as it should.
        }
      })
  )

export const pidOf = ({ pid }: ChildProcess) => pid ?? Number.NaN

/** Opens a file on the lowest free descriptors: code that reads a descriptor after closing it gets the file's bytes. */
export const withForeignBytes = Effect.acquireRelease(
  Effect.sync(() => Array.from({ length: 16 }, () => openSync(fileURLToPath(import.meta.url), "r"))),
  (fds) =>
    Effect.sync(() => {
      for (const fd of fds) closeSync(fd)
    })
)
