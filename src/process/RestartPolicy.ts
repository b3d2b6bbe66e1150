/**
 * Decides whether an ended process is restarted, and when.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Restart } from "../protocol/ExecApi.js"
import type { ExitStatus } from "../spawn/Child.js"

/** The decisions for one process. */
export interface RestartPolicy {
  /**
   * Whether this end leads to a restart, which is then counted. More than `maxRestarts` within `withinMs` are too many,
   * as in OTP's restart intensity.
   */
  readonly allows: (status: ExitStatus) => boolean
  /** Waits before that restart: `backoffMs`, doubling each time up to `maxBackoffMs`. */
  readonly backoff: Effect.Effect<void>
}

const isFailure = (status: ExitStatus) => status._tag !== "Exited" || status.code !== 0

/** The policy of a process. */
export const make = ({
  policy,
  maxRestarts,
  withinMs,
  backoffMs,
  maxBackoffMs
}: Restart): Effect.Effect<RestartPolicy> =>
  Effect.gen(function* () {
    const clock = yield* Clock.clockWith(Effect.succeed)
    const delays = yield* Schedule.driver(
      Schedule.exponential(Duration.millis(backoffMs)).pipe(
        Schedule.union(Schedule.spaced(Duration.millis(maxBackoffMs)))
      )
    )
    let recent: ReadonlyArray<number> = []
    return {
      allows: (status) => {
        if (policy === "never" || (policy === "onFailure" && !isFailure(status))) return false
        // Monotonic: the system clock may be set.
        const now = Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
        recent = recent.filter((time) => now - time < withinMs)
        if (recent.length >= maxRestarts) return false
        recent = [...recent, now]
        return true
      },
      backoff: Effect.gen(function* () {
        // The first restart of a new series: the process ran well for a while.
        if (recent.length === 1) yield* delays.reset
        yield* Effect.ignore(delays.next(undefined))
      })
    }
  })
