/**
 * Ends what nobody uses any more.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** The longest single sleep, in milliseconds: timers are limited, and the system clock may be set. */
const maxSleepMs = 3_600_000

/** How something is used. */
export class Use {
  private count = 0
  private lastMs: number

  constructor(private readonly clock: Clock.Clock) {
    this.lastMs = clock.unsafeCurrentTimeMillis()
  }

  /** Begins a use. */
  enter(): void {
    this.count++
  }

  /** Ends a use. */
  leave(): void {
    this.count--
    this.lastMs = this.clock.unsafeCurrentTimeMillis()
  }

  /** Since when it is not used, in milliseconds since 1970; undefined while it is. */
  get unusedSinceMs(): number | undefined {
    return this.count > 0 ? undefined : this.lastMs
  }
}

/** Something that is used, until a time in milliseconds since 1970 at the latest. */
export interface Used {
  readonly use: Use
  readonly expiresAtMs: number
}

/** Waits until it was not used for `idleMs` milliseconds, or has expired. */
export const over = (used: Used, idleMs: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const { unusedSinceMs = now } = used.use
    const endsAt = Math.min(used.expiresAtMs, unusedSinceMs + idleMs)
    if (now >= endsAt) return Effect.void
    return Effect.zipRight(Effect.sleep(Math.min(endsAt - now, maxSleepMs)), over(used, idleMs))
  })
