/**
 * Children that follow a script of outputs and exits. Times count from the start of the child, by Effect's clock: under
 * `TestClock` a script advances only when the test adjusts the clock.
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
 * One step of a script.
 *
 * @category models
 */
export interface Step {
  /** Milliseconds since the start of the child. */
  readonly atMs: number
  readonly run: (child: FakeChild) => void
}

const streamOf = (child: FakeChild): OutputStream => (child.spec.io._tag === "Pty" ? "pty" : "stdout")

/**
 * Writes output: to `stream` if given, else to the terminal, or to stdout if there is none.
 *
 * @category constructors
 */
export const output = (at: Duration.DurationInput, text: string | Buffer, stream?: OutputStream): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.emit(stream ?? streamOf(child), text)
})

/**
 * Ends the output and exits with a code.
 *
 * @category constructors
 */
export const exit = (at: Duration.DurationInput, code = 0): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.finish(code)
})

/**
 * Dies of a signal that the server did not send.
 *
 * @category constructors
 */
export const dieOf = (at: Duration.DurationInput, signal: Signal): Step => ({
  atMs: Duration.toMillis(at),
  run: (child) => child.die(signal)
})

/**
 * Exits while a descendant keeps the output open: `closed` comes only after `outputEnd` or the end of the tree.
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
 * Ends the descendant of `leave`, and with it the output.
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
        // A dead child does nothing more, unless a descendant remains.
        if (child.exited && !child.remains) return
        run(child)
      }
    })

/**
 * A child that performs these steps, ordered by time. Without an `exit` step it runs until a signal ends it; set
 * `onSignal` in `more` to change that, for example to `FakeSpawner.stubborn`.
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
 * A child without output that runs until a signal ends it.
 *
 * @category constructors
 */
export const silent: Plan = {}

/**
 * A child that runs until SIGKILL and ignores all other signals.
 *
 * @category constructors
 */
export const ignoresSignals: Plan = { onSignal: stubborn }

/**
 * A child that survives every signal, SIGKILL included.
 *
 * @category constructors
 */
export const unkillable: Plan = { onSignal: immortal }

/**
 * A child that cannot be started. The message stands for the system's reason.
 *
 * @category constructors
 */
export const failsToStart = (message: string): Plan => ({ before: new SpawnError({ message }) })
