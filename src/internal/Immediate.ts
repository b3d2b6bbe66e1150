/**
 * Effects that begin without a fiber. Most requests end where they begin, and a fiber costs several times what they do
 * (`npm run bench -- --only requests`); whatever runs effects runs these as well.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"

/** An effect whose first part is a function. */
class Immediate<A, E> extends Effectable.Class<A, E> {
  constructor(readonly first: (context: Context.Context<never>) => Effect.Effect<A, E>) {
    super()
  }

  override commit() {
    return Effect.contextWithEffect(this.first)
  }
}

/** An effect that does its first part at once: what it gives is the exit, or what is left to be done. */
export const make = <A, E = never>(
  first: (context: Context.Context<never>) => Effect.Effect<A, E>
): Effect.Effect<A, E> => new Immediate(first)

/** An effect that is nothing but a function. */
export const sync = <A>(f: () => A): Effect.Effect<A> => make(() => Exit.succeed(f()))

/** Begins an effect: gives its exit if it needed no fiber, else what is left for one. Defects are thrown. */
export const begin = <A, E>(effect: Effect.Effect<A, E>, context: Context.Context<never>): Effect.Effect<A, E> => {
  let left = effect
  while (left instanceof Immediate) left = left.first(context)
  return left
}

/** Whether what is left of an effect is its exit. */
export const hasEnded = <A, E>(left: Effect.Effect<A, E>): left is Exit.Exit<A, E> => Exit.isExit(left)

/** Goes on with the value of an effect. */
export const flatMap = <A, E, B, F>(
  self: Effect.Effect<A, E>,
  f: (value: A) => Effect.Effect<B, F>
): Effect.Effect<B, E | F> =>
  make((context): Effect.Effect<B, E | F> => {
    const left = begin(self, context)
    if (!hasEnded(left)) return Effect.flatMap(left, f)
    return Exit.isSuccess(left) ? f(left.value) : Exit.failCause(left.cause)
  })

/** Gives something else for the value of an effect. */
export const map = <A, E, B>(self: Effect.Effect<A, E>, f: (value: A) => B): Effect.Effect<B, E> =>
  flatMap(self, (value) => Exit.succeed(f(value)))
