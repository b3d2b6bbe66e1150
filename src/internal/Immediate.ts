/**
 * Effects whose first part runs without a fiber. Most requests complete in it, and a fiber costs several times as much
 * as such a request (`npm run bench -- --only requests`). Every Effect runtime can run them too.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
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

/** An effect whose first part is a function: it returns the exit, or an effect for the rest. */
export const make = <A, E = never>(
  first: (context: Context.Context<never>) => Effect.Effect<A, E>
): Effect.Effect<A, E> => new Immediate(first)

/** An effect that is only a function. */
export const sync = <A>(f: () => A): Effect.Effect<A> => make(() => Exit.succeed(f()))

/** Runs the first part of an effect: returns its exit if it needed no fiber, else the rest. Defects are thrown. */
export const begin = <A, E>(effect: Effect.Effect<A, E>, context: Context.Context<never>): Effect.Effect<A, E> => {
  let left = effect
  while (left instanceof Immediate) left = left.first(context)
  return left
}

/** Runs the first part of an effect that needs no services. A defect is its exit. */
export const attempt = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> => {
  try {
    return begin(effect, Context.empty())
  } catch (defect) {
    return Exit.die(defect)
  }
}

/** Whether the rest of an effect is its exit. */
export const hasEnded = <A, E>(left: Effect.Effect<A, E>): left is Exit.Exit<A, E> => Exit.isExit(left)

/** Continues with the value of an effect. */
export const flatMap = <A, E, B, F>(
  self: Effect.Effect<A, E>,
  f: (value: A) => Effect.Effect<B, F>
): Effect.Effect<B, E | F> =>
  make((context): Effect.Effect<B, E | F> => {
    const left = begin(self, context)
    if (!hasEnded(left)) return Effect.flatMap(left, f)
    return Exit.isSuccess(left) ? f(left.value) : Exit.failCause(left.cause)
  })

/** Transforms the value of an effect. */
export const map = <A, E, B>(self: Effect.Effect<A, E>, f: (value: A) => B): Effect.Effect<B, E> =>
  flatMap(self, (value) => Exit.succeed(f(value)))
