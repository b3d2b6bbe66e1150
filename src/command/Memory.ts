/**
 * How memory is taken and given back, once a command has started: with other flags of V8 Node.js compiles its own
 * modules anew, which the start would wait for.
 *
 * @since 0.1.0
 */
import v8 from "node:v8"
import * as Effect from "effect/Effect"
import * as Posix from "../spawn/Posix.js"

/** Freed memory that each heap of the C library keeps, in bytes. */
const keptFreedBytes = 524288

/**
 * Garbage is collected as it suits those who pass much output on.
 *
 * The space for young objects stays at the size that the start has made it: four times that, which it would grow to, is
 * taken by garbage alone, and would be most of what connections and processes seem to cost a server (`node
 * scratch/bench.mjs --only rss`); requests are served as fast.
 *
 * Few young objects live, so that one thread is done with them in 0.3 ms. With more, it waits until the others were
 * given a processor: where children and clients keep all of them busy, up to ten times as long (`node
 * scratch/relay.mjs` with `--trace-gc` shows both). Nor is the memory of buffers left to another thread to free: until
 * it has, V8 takes it for used, and collects again and again: `run` takes an eighth more processor time for 1.5 GB.
 */
export const collectAlone: Effect.Effect<void> = Effect.sync(() => {
  for (const flag of ["semi-space-growth-factor=1", "no-parallel-scavenge", "no-concurrent-array-buffer-sweeping"]) {
    v8.setFlagsFromString(`--${flag}`)
  }
})

/**
 * The same for a server, which also gives back to the system what compiling has taken: with it, connections seem to
 * cost half as much again. Where the native part is missing, every start of a process says so.
 */
export const limit: Effect.Effect<void> = Effect.zipRight(
  collectAlone,
  Effect.ignore(Effect.try(() => Posix.keepFreed(keptFreedBytes)))
)
