/**
 * Children that follow a script: output at times, exits, silence. Time is Effect's clock, so that under `TestClock` a
 * script stands still until the test moves it. Times are counted from the start of the child.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { Signal } from "../protocol/Signals.js"
import { ExitStatus, SpawnError } from "../spawn/Child.js"
import { type FakeChild, immortal, type Plan, stubborn } from "./FakeSpawner.js"

/**
 * One thing that a child does, some time after it was started.
 *
 * @category models
 */
export interface Step {
  /** Milliseconds since the start. */
  readonly atMs: number
  readonly run: (child: FakeChild) => void
}

const streamOf = (child: FakeChild): OutputStream => (child.spec.io._tag === "Pty" ? "pty" : "stdout")

/**
 * Writes to the terminal, or to stdout where there is none; or to the stream given.
 *
 * @category constructors
 */
export const output = (at: Duration.DurationInput, text: string | Buffer, stream?: OutputStream): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.emit(stream ?? streamOf(child), text)
})

/**
 * Exits with a code, its output ended.
 *
 * @category constructors
 */
export const exit = (at: Duration.DurationInput, code = 0): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.finish(code)
})

/**
 * Dies of a signal that nobody has sent.
 *
 * @category constructors
 */
export const dieOf = (at: Duration.DurationInput, signal: Signal): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.die(signal)
})

/**
 * Exits while a descendant keeps the output open: `closed` does not follow before `outputEnd`, or the end of the tree.
 *
 * @category constructors
 */
export const leave = (at: Duration.DurationInput, code = 0): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => {
    child.remains = true
    child.exit(ExitStatus.Exited({ code }))
  }
})

/**
 * The descendant of `leave` goes.
 *
 * @category constructors
 */
export const outputEnd = (at: Duration.DurationInput): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => {
    child.remains = false
    child.endOutput()
  }
})

/**
 * Closes its stdin.
 *
 * @category constructors
 */
export const closeStdin = (at: Duration.DurationInput): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.closeStdin()
})

const play =
  (steps: ReadonlyArray<Step>) =>
  (child: FakeChild): Effect.Effect<void> =>
    Effect.gen(function* () {
      const start = yield* Clock.currentTimeMillis
      for (const { atMs, run } of steps) {
        const waitMs = start + atMs - (yield* Clock.currentTimeMillis)
        if (waitMs > 0) yield* Effect.sleep(waitMs)
        // Whoever was killed does nothing any more; what it has left behind may.
        if (child.exited && !child.remains) return
        run(child)
      }
    })

/**
 * A child that does this, in the order of the times. Without an `exit` it never exits by itself; it dies of signals
 * unless `more` says otherwise, with `onSignal: FakeSpawner.stubborn` for one that ignores all but SIGKILL.
 *
 * @category constructors
 * @example
 * FakeSpawner.layerOf(Script.plan([Script.output("100 millis", "ready\n"), Script.exit("5 seconds")]))
 */
export const plan = (steps: ReadonlyArray<Step>, more: Omit<Plan, "script"> = {}): Plan => ({
  ...more,
  script: play([...steps].sort((a, b) => a.atMs - b.atMs))
})

/**
 * A child that says nothing and never exits by itself.
 *
 * @category constructors
 */
export const silent: Plan = {}

/**
 * A child that ignores every signal but SIGKILL, and never exits by itself.
 *
 * @category constructors
 */
export const ignoresSignals: Plan = { onSignal: stubborn }

/**
 * A child that nothing ends, not even SIGKILL.
 *
 * @category constructors
 */
export const unkillable: Plan = { onSignal: immortal }

/**
 * A child that cannot be started; the message is what the system would say.
 *
 * @category constructors
 */
export const failsToStart = (message: string): Plan => ({ before: new SpawnError({ message }) })
