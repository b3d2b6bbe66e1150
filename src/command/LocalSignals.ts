/**
 * The signals that this command receives: they end it, unless a handler takes them.
 *
 * @since 0.1.0
 */
import { constants } from "node:os"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Exited } from "./CommandExit.js"

/** The handled signals. */
export const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const
/** One of them. */
export type Signal = (typeof signals)[number]

/** The exit status of a program killed by a signal: 128 + n. */
export const codeOf = (signal: Signal): number => 128 + constants.signals[signal]

/** The signal handling of a command. */
export class LocalSignals extends Context.Tag("exec-server/LocalSignals")<
  LocalSignals,
  {
    /** Passes signals to `handler` while the scope is open. */
    readonly take: (handler: (signal: Signal) => void) => Effect.Effect<void, never, Scope.Scope>
    /** Ends the command as this signal would. */
    readonly end: (signal: Signal) => void
  }
>() {}

/** Runs a command with signal handling: the first signal interrupts it, a second one exits at once. */
export const provide = <A, E, R>(
  command: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Exited, Exclude<R, LocalSignals>> =>
  Effect.scoped(
    Effect.gen(function* () {
      const ended = yield* Deferred.make<never, Exited>()
      let ending = false
      const end = (signal: Signal) => {
        if (ending) process.exit(codeOf(signal))
        ending = true
        Deferred.unsafeDone(ended, new Exited({ code: codeOf(signal) }))
      }
      let handler = end
      const onSignal = (signal: Signal) => (ending ? end : handler)(signal)
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          signals.map((signal) => {
            // Existing listeners would end this process before its finalizers have run.
            const existing = process.listeners(signal)
            // Add before removing: without any listener, a signal kills the process.
            process.on(signal, onSignal)
            for (const listener of existing) process.removeListener(signal, listener)
            return [signal, existing] as const
          })
        ),
        (replaced) =>
          Effect.sync(() => {
            for (const [signal, listeners] of replaced) {
              for (const listener of listeners) process.on(signal, listener)
              process.removeListener(signal, onSignal)
            }
          })
      )
      const take = (taker: (signal: Signal) => void) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => {
              handler = taker
            }),
            () =>
              Effect.sync(() => {
                handler = end
              })
          )
        )
      return yield* Effect.raceFirst(Effect.provideService(command, LocalSignals, { take, end }), Deferred.await(ended))
    })
  )
