/**
 * Tunes the memory use of a command after its start. The V8 flags are set at run time: given to Node.js at its start,
 * they would invalidate its compile cache and slow the start down.
 *
 * @since 0.1.0
 */
import v8 from "node:v8"
import * as Effect from "effect/Effect"
import * as Posix from "../spawn/Posix.js"

/** The freed memory that each malloc heap may keep, in bytes. */
const keptFreedBytes = 524288

/**
 * Tunes garbage collection for forwarding much output.
 *
 * - The young generation keeps its initial size. By default it grows fourfold, filled by garbage only, and would be
 *   most of the memory per connection and process (`node scratch/bench.mjs --only rss`). Requests are as fast.
 * - One thread scavenges. Few young objects survive, so it takes 0.3 ms. Parallel threads wait for free processors:
 *   with busy children and clients, a collection takes up to ten times as long (`node scratch/relay.mjs` with
 *   `--trace-gc` shows both).
 * - The main thread frees array buffers. Until a concurrent sweeper has freed them, V8 counts them as used and collects
 *   again and again: `run` then takes an eighth more processor time for 1.5 GB.
 */
export const tuneCollector: Effect.Effect<void> = Effect.sync(() => {
  for (const flag of ["semi-space-growth-factor=1", "no-parallel-scavenge", "no-concurrent-array-buffer-sweeping"]) {
    v8.setFlagsFromString(`--${flag}`)
  }
})

/**
 * Tunes a server: `tuneCollector`, and malloc returns freed memory to the system. Otherwise memory left from compiling
 * makes connections seem to cost half as much again. Without the native part this is skipped; starting a process then
 * reports that it is missing.
 */
export const tuneServer: Effect.Effect<void> = Effect.zipRight(
  tuneCollector,
  Effect.ignore(Effect.try(() => Posix.keepFreed(keptFreedBytes)))
)
