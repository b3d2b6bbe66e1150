/**
 * The waits of a process that need a fiber: the next child under a restart policy, a time limit, a delayed kill, and
 * output that is held open from outside of the tree. The fibers belong to the scope of the process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Monotonic from "../internal/Monotonic.js"
import { type Child, type ChildEvents, type ChildSpec, ExitStatus, type SpawnError } from "../spawn/Child.js"
import type { ManagedProcess } from "./ManagedProcess.js"
import type { RestartPolicy } from "./RestartPolicy.js"

/**
 * How long output may still come after a tree was killed, in milliseconds. Only a process that had left the tree can
 * hold the other end then.
 */
export const lateOutputMs = 1000

/** Ignores the reports of a child. */
const nobody: ChildEvents = { onOutput: () => {}, onExit: () => {}, onOutputEnd: () => {}, onStdinClosed: () => {} }

/** Waits for the exit, and briefly for the remaining output; then abandons the output. */
export const abandonOutput = (process: ManagedProcess): Effect.Effect<void> =>
  Effect.suspend(() => {
    process.deadlines = { ...process.deadlines, abandons: true }
    return process.wait("exited", Number.POSITIVE_INFINITY)
  }).pipe(
    Effect.zipRight(process.untilClosed(lateOutputMs)),
    Effect.zipRight(Effect.sync(() => process.abandonOutput()))
  )

/** A time in the future; `before`: another one that counts if it is earlier. */
const deadline = (ms: number, before = Number.POSITIVE_INFINITY): Effect.Effect<number> =>
  Effect.map(Monotonic.now, (now) => Math.min(now + ms, before))

/** Kills a process that has not closed after `timeoutMs`. */
export const expire = (process: ManagedProcess, timeoutMs: number): Effect.Effect<void> =>
  Effect.zipRight(
    Effect.flatMap(deadline(timeoutMs), (expiresAtMs) => {
      process.deadlines = { ...process.deadlines, expiresAtMs }
      return process.untilClosed(timeoutMs)
    }),
    Effect.suspend(() => {
      process.expire()
      return abandonOutput(process)
    })
  )

/** Runs `kill` after `timeoutMs`, for what SIGTERM has left of a tree. Ends early if the tree has ended. */
export const killLater = (
  process: ManagedProcess,
  timeoutMs: number,
  kill: Effect.Effect<unknown>
): Effect.Effect<void> =>
  Effect.raceFirst(
    Effect.flatMap(deadline(timeoutMs, process.deadlines?.killsAtMs), (killsAtMs) => {
      process.deadlines = { ...process.deadlines, killsAtMs }
      return Effect.sleep(timeoutMs)
    }).pipe(
      Effect.zipRight(
        Effect.suspend(() => {
          process.deadlines = { ...process.deadlines, killsAtMs: undefined }
          return Effect.asVoid(kill)
        })
      )
    ),
    Effect.zipRight(
      process.untilClosed(Number.POSITIVE_INFINITY),
      Effect.suspend(() => (process.findRemains() ? Effect.never : Effect.void))
    )
  )

/** Restarts the process after each end, if its policy says so. */
export const keepUp = (
  process: ManagedProcess,
  spec: ChildSpec,
  policy: RestartPolicy,
  spawn: (spec: ChildSpec) => Effect.Effect<Child, SpawnError>
): Effect.Effect<void> => {
  const respawn = Effect.suspend(() => {
    if (process.tag !== "Restarting") return Effect.succeed(undefined)
    process.isSpawning = true
    return spawn({ ...spec, io: process.resized(spec.io) })
  }).pipe(
    Effect.tap((child) => {
      if (child === undefined) return
      if (process.tag === "Restarting") return process.restarted(child)
      // The process was finished during the spawn.
      child.listen(nobody)
      child.signal("SIGKILL", "tree")
    }),
    Effect.catchTag("SpawnError", ({ message }) =>
      Effect.sync(() => process.restartFailed(message, policy.allows(ExitStatus.Lost({ reason: message }))))
    ),
    Effect.ensuring(Effect.sync(() => process.spawnEnded())),
    Effect.uninterruptible
  )
  return Effect.gen(function* () {
    while (process.tag !== "Exited" && process.tag !== "Closed") {
      yield* process.untilLeft("Running")
      if (process.tag !== "Restarting") return
      // Remains of the previous child must not interfere with the next one.
      process.signal("SIGKILL", "tree")
      yield* process.untilDrained(lateOutputMs)
      process.abandonOutput()
      yield* process.untilDrained(Number.POSITIVE_INFINITY)
      yield* Effect.raceFirst(policy.backoff, process.untilLeft("Restarting"))
      yield* respawn
    }
  })
}
