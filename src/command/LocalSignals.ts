/**
 * The signals that this command itself gets: they end it, unless it hands them on.
 *
 * @since 0.1.0
 */
import { constants } from "node:os"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Exited } from "./Outcome.js"

/** The signals that are listened to. */
export const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const
/** One of them. */
export type Signal = (typeof signals)[number]

/** What a shell says of who was ended by a signal. */
export const codeOf = (signal: Signal): number => 128 + constants.signals[signal]

/** The signals of a command. */
export class LocalSignals extends Context.Tag("exec-server/LocalSignals")<
  LocalSignals,
  {
    /** Gives signals to somebody else while the scope is open. */
    readonly take: (handler: (signal: Signal) => void) => Effect.Effect<void, never, Scope.Scope>
    /** Ends the command as this signal would. */
    readonly end: (signal: Signal) => void
  }
>() {}

/** Runs a command that ends, with everything it has started, when it gets a signal; and at once when it gets another. */
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
            // Others would end this command before it has put everything in order.
            const others = process.listeners(signal)
            // There is a listener at any time: without one, the signal ends the process.
            process.on(signal, onSignal)
            for (const other of others) process.removeListener(signal, other)
            return [signal, others] as const
          })
        ),
        (replaced) =>
          Effect.sync(() => {
            for (const [signal, others] of replaced) {
              for (const other of others) process.on(signal, other)
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
