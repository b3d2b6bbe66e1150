/**
 * What a process needs a fiber for: another child after the last one, a time limit, a kill that comes later, and output
 * that somebody outside of the tree holds open. Such a fiber belongs to the scope of its process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { type Child, type ChildEvents, type ChildSpec, ExitStatus, type SpawnError } from "../spawn/Child.js"
import type { ManagedProcess } from "./ManagedProcess.js"
import type { RestartPolicy } from "./RestartPolicy.js"

/**
 * How long output may still come after a tree was killed, in milliseconds: only a descendant that had left the tree
 * can hold the other end then, and nobody waits for it.
 */
export const lateOutputMs = 1000

/** For a child that nobody hears of. */
const nobody: ChildEvents = { onOutput: () => {}, onExit: () => {}, onOutputEnd: () => {}, onStdinClosed: () => {} }

/** Waits for the exit, and some time for the rest of the output; then gives up what is still to come. */
export const abandonOutput = (process: ManagedProcess): Effect.Effect<void> =>
  process
    .wait("exited", Number.POSITIVE_INFINITY)
    .pipe(
      Effect.zipRight(process.untilClosed(lateOutputMs)),
      Effect.zipRight(Effect.sync(() => process.abandonOutput()))
    )

/** Kills a process that has not closed after `timeoutMs`. */
export const expire = (process: ManagedProcess, timeoutMs: number): Effect.Effect<void> =>
  Effect.zipRight(
    process.untilClosed(timeoutMs),
    Effect.suspend(() => {
      process.expire()
      return abandonOutput(process)
    })
  )

/** Runs `kill` after `timeoutMs`, for what a SIGTERM has left of a tree. Does not wait for a tree that has ended. */
export const killLater = (
  process: ManagedProcess,
  timeoutMs: number,
  kill: Effect.Effect<unknown>
): Effect.Effect<void> =>
  Effect.raceFirst(
    Effect.zipRight(Effect.sleep(timeoutMs), Effect.asVoid(kill)),
    Effect.zipRight(
      process.untilClosed(Number.POSITIVE_INFINITY),
      Effect.suspend(() => (process.findRemains() ? Effect.never : Effect.void))
    )
  )

/** Starts another child whenever one has ended and the process is to be restarted. */
export const keepUp = (
  process: ManagedProcess,
  spec: ChildSpec,
  policy: RestartPolicy,
  spawn: (spec: ChildSpec) => Effect.Effect<Child, SpawnError>
): Effect.Effect<void> => {
  const respawn = Effect.suspend(() =>
    process.tag === "Restarting" ? spawn({ ...spec, io: process.resized(spec.io) }) : Effect.succeed(undefined)
  ).pipe(
    Effect.tap((child) => {
      if (child === undefined) return
      if (process.tag === "Restarting") return process.restarted(child)
      // It was given up while the spawn took its time.
      child.listen(nobody)
      child.signal("SIGKILL", "tree")
    }),
    Effect.catchTag("SpawnError", ({ message }) =>
      Effect.sync(() => process.restartFailed(message, policy.allows(ExitStatus.Lost({ reason: message }))))
    ),
    Effect.uninterruptible
  )
  return Effect.gen(function* () {
    while (process.tag !== "Exited" && process.tag !== "Closed") {
      yield* process.untilLeft("Running")
      if (process.tag !== "Restarting") return
      // What the last child left behind must not meet its successor.
      process.signal("SIGKILL", "tree")
      yield* process.untilDrained(lateOutputMs)
      process.abandonOutput()
      yield* process.untilDrained(Number.POSITIVE_INFINITY)
      yield* Effect.raceFirst(policy.backoff, process.untilLeft("Restarting"))
      yield* respawn
    }
  })
}
