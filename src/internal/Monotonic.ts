/**
 * Time that only goes forward, for deadlines. The system clock may be set.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** The monotonic time of a clock, in milliseconds. */
export const of = (clock: Clock.Clock): number => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)

/** The monotonic time of the current clock, in milliseconds. */
export const now: Effect.Effect<number> = Clock.clockWith((clock) => Effect.sync(() => of(clock)))

/** The monotonic time of the machine, in milliseconds: the same for all programs until it is started again. */
export const ofMachine = (): number => Number(process.hrtime.bigint() / 1_000_000n)
