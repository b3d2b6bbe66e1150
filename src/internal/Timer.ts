/**
 * The limits of Node.js timers, and of dates.
 *
 * @since 0.1.0
 */

/** The longest time of a timer, in milliseconds; longer ones fire at once. */
export const maxTimerMs = 2 ** 31 - 1

/** A time limited to what a timer accepts. */
export const timerMs = (ms: number): number => Math.min(ms, maxTimerMs)

/** The last moment of a JavaScript date, in milliseconds since 1970. */
export const maxDateMs = 8.64e15
