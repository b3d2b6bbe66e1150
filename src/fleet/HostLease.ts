/**
 * A host's own clock of its lease: without any gateway for so long, the fleet has declared it lost, and its sessions must
 * end here too.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Monotonic from "../internal/Monotonic.js"

/** The lease of one host. */
export interface HostLease {
  /** A gateway was heard. False if that came too late: the lease has lapsed. */
  readonly heard: Effect.Effect<boolean>
  /** Completes when no gateway was heard for a whole lease. Never before the first one was. */
  readonly lapsed: Effect.Effect<void>
  /** Begins anew, as if no gateway had ever been heard. */
  readonly reset: Effect.Effect<void>
  /** Sets the lease, in milliseconds: gateways say it. */
  readonly setMs: (ms: number) => void
}

/** How often the clock is looked at, in milliseconds: a process that was stopped notices soon after. */
const lookMs = 250

/**
 * A lease that has not begun. Its time is monotonic: setting the machine's clock changes nothing. While the whole machine
 * sleeps it may stand still; then the fleet tells of the loss when the host connects again.
 */
export const make = (initialMs: number): HostLease => {
  let leaseMs = initialMs
  let heardAt: number | undefined
  const isLapsed = (now: number) => heardAt !== undefined && now - heardAt > leaseMs
  return {
    heard: Effect.map(Monotonic.now, (now) => {
      // A process that was stopped for longer finds what was sent to it before.
      if (isLapsed(now)) return false
      heardAt = now
      return true
    }),
    lapsed: Effect.zipRight(Effect.sleep(lookMs), Monotonic.now).pipe(
      Effect.repeat({ until: isLapsed }),
      Effect.asVoid
    ),
    reset: Effect.sync(() => {
      heardAt = undefined
    }),
    setMs: (ms) => {
      leaseMs = ms
    }
  }
}
