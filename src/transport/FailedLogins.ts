/**
 * Slows down the guessing of tokens: the answers to wrong ones are late and few.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** The least time until the answer, in milliseconds. */
const delayMs = 250

/** The time between two answers, in milliseconds. */
const intervalMs = 100

/** The longest time until the answer, in milliseconds; it bounds the connections that wait. */
const maxDelayMs = 1250

/** The failed logins of one listener. */
export class FailedLogins {
  private lastMs = 0

  /** Waits for this failure's turn. Returns false at once if too many others wait. */
  readonly wait: Effect.Effect<boolean> = Effect.flatMap(Clock.currentTimeMillis, (now) => {
    // No turn is later than that, unless the clock was set back.
    const lastMs = this.lastMs > now + maxDelayMs ? 0 : this.lastMs
    const turnMs = Math.max(now + delayMs, lastMs + intervalMs)
    if (turnMs > now + maxDelayMs) return Effect.succeed(false)
    this.lastMs = turnMs
    return Effect.as(Effect.sleep(turnMs - now), true)
  })
}
