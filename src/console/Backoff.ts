/**
 * How long to wait before the next attempt to connect.
 *
 * @since 0.1.0
 */

/** The longest wait, in milliseconds. */
export const longestMs = 15_000

/** The wait before the attempt `attempt`, from 1: it doubles, up to 15 s, less up to a third at random. */
export const delayMs = (attempt: number, random: number): number =>
  Math.min(longestMs, 250 * 2 ** Math.min(attempt - 1, 10)) * (1 - random / 3)
