/**
 * Decides whether an ended process is restarted, and when.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Monotonic from "../internal/Monotonic.js"
import type { Restart } from "../protocol/ExecApi.js"
import type { ExitStatus } from "../spawn/Child.js"
import type { PolicyState } from "./ProcessImage.js"

/** The decisions for one process. */
export interface RestartPolicy {
  /**
   * Whether this end leads to a restart, which is then counted. More than `maxRestarts` within `withinMs` are too many,
   * as in OTP's restart intensity.
   */
  readonly allows: (status: ExitStatus) => boolean
  /** Waits before that restart: `backoffMs`, doubling each time up to `maxBackoffMs`. */
  readonly backoff: Effect.Effect<void>
  /** What was decided so far, for `make`. */
  readonly freeze: () => PolicyState
}

const isFailure = (status: ExitStatus) => status._tag !== "Exited" || status.code !== 0

/** The policy of a process; `state` is that of the version of the server before, `elapsedMs` ago. */
export const make = (
  { policy, maxRestarts, withinMs, backoffMs, maxBackoffMs }: Restart,
  state?: PolicyState,
  elapsedMs = 0
): Effect.Effect<RestartPolicy> =>
  Effect.gen(function* () {
    const clock = yield* Clock.clockWith(Effect.succeed)
    // Monotonic: the system clock may be set.
    const now = () => Monotonic.of(clock)
    let recent: ReadonlyArray<number> = (state?.agesMs ?? []).map((age) => now() - elapsedMs - age)
    /** The number of delays of this series. */
    let delays = state?.delays ?? 0
    let dueAt = state?.leftMs === undefined ? undefined : now() - elapsedMs + state.leftMs
    const nextDue = (): number => {
      // The first restart of a new series: the process ran well for a while.
      if (recent.length === 1) delays = 0
      return now() + Math.min(backoffMs * 2 ** delays++, maxBackoffMs)
    }
    return {
      allows: (status) => {
        if (policy === "never" || (policy === "onFailure" && !isFailure(status))) return false
        recent = recent.filter((time) => now() - time < withinMs)
        if (recent.length >= maxRestarts) return false
        recent = [...recent, now()]
        return true
      },
      backoff: Effect.suspend(() => {
        dueAt ??= nextDue()
        return Effect.ensuring(
          Effect.sleep(Math.max(0, dueAt - now())),
          Effect.sync(() => {
            dueAt = undefined
          })
        )
      }),
      freeze: () => ({
        agesMs: recent.map((time) => now() - time),
        delays,
        ...(dueAt === undefined ? {} : { leftMs: Math.max(0, dueAt - now()) })
      })
    }
  })
