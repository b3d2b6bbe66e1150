/**
 * Composes layers cheaply, for a fast start of the server.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"

/** Any layer. */
type AnyLayer = Layer.Layer<never, unknown, unknown>

type Given<Layers extends ReadonlyArray<AnyLayer>> = {
  readonly [K in keyof Layers]: Layer.Layer.Success<Layers[K]>
}[number]

type Failures<Layers extends ReadonlyArray<AnyLayer>> = {
  readonly [K in keyof Layers]: Layer.Layer.Error<Layers[K]>
}[number]

/** What a sequence of layers requires, if each gets the services of those before it. */
type Needs<Layers, Before = never> = Layers extends readonly [infer First extends AnyLayer, ...infer Rest]
  ? Exclude<Layer.Layer.Context<First>, Before> | Needs<Rest, Before | Layer.Layer.Success<First>>
  : never

/** Layers that are built in one scope, and what each of them has given; undefined once all are built. */
interface AtOnce {
  built: Map<AnyLayer, Context.Context<never>> | undefined
}

class CurrentAtOnce extends Context.Reference<CurrentAtOnce>()("exec-server/Wiring/CurrentAtOnce", {
  defaultValue: (): AtOnce => ({ built: undefined })
}) {}

/**
 * The effect that a layer consists of; undefined if it is put together from others. Effect does not export this: a
 * layer of another form is left to Effect.
 */
const effectOf = (layer: AnyLayer): Effect.Effect<Context.Context<never>, unknown, unknown> | undefined => {
  const { _op_layer: form, effect } = layer as unknown as {
    readonly _op_layer?: unknown
    readonly effect?: Effect.Effect<Context.Context<never>, unknown, unknown>
  }
  return (form === "FromEffect" || form === "Scoped") && Effect.isEffect(effect) ? effect : undefined
}

/** Builds a layer once, in the current scope. */
const buildOnce = (layer: AnyLayer, built: Map<AnyLayer, Context.Context<never>>) => {
  const known = built.get(layer)
  if (known !== undefined) return Effect.succeed(known)
  const effect = effectOf(layer)
  return effect === undefined ? undefined : Effect.tap(effect, (made) => void built.set(layer, made))
}

/** Builds layers in sequence, each with the services before it. Returns the services built. */
const buildAll = <A, E>(layers: ReadonlyArray<AnyLayer>, before: Context.Context<never>) =>
  Effect.gen(function* () {
    const memoMap = yield* Layer.CurrentMemoMap
    const scope = yield* Effect.scope
    const { built } = Context.get(before, CurrentAtOnce)
    let made: Context.Context<never> = Context.empty()
    for (const layer of layers) {
      if (layer === Layer.empty) continue
      const here = (built && buildOnce(layer, built)) ?? Layer.buildWithMemoMap(layer, memoMap, scope)
      // The callers' signatures state the requirements and results; types cannot follow them through the loop.
      const given = Effect.provide(here, Context.merge(before, made)) as Effect.Effect<Context.Context<never>, E>
      made = Context.merge(made, yield* given)
    }
    return made as Context.Context<A>
  })

/** The current context, whatever it holds. */
const surroundings = <R>(): Effect.Effect<Context.Context<never>, never, R> => Effect.context<R>()

/**
 * Builds layers in the current scope, each with the services of those before it. For the outermost layers of a program:
 * these, and all in them that this module composes, are built without Effect's memo map, which takes 140 of the 180 steps
 * of a layer. The 60 layers of a server took a sixth of its start (`node scratch/bench.mjs --only startup`).
 */
export const buildAtOnce = <const Layers extends ReadonlyArray<AnyLayer>>(
  ...layers: Layers
): Effect.Effect<Context.Context<Given<Layers>>, Failures<Layers>, Needs<Layers> | Scope.Scope> =>
  Effect.flatMap(surroundings<Needs<Layers> | Scope.Scope>(), (surrounding) => {
    const atOnce: AtOnce = { built: new Map() }
    const before = Context.add(surrounding, CurrentAtOnce, atOnce)
    return Effect.tap(buildAll<Given<Layers>, Failures<Layers>>(layers, before), () => {
      // Services may build others later, in scopes of their own.
      atOnce.built = undefined
    })
  })

/** Provides an effect with layers, built by `buildAtOnce`. */
export const provideAtOnce =
  <const Layers extends ReadonlyArray<AnyLayer>>(...layers: Layers) =>
  <A, E, R>(
    self: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | Failures<Layers>, Exclude<Needs<Layers>, Scope.Scope> | Exclude<R, Given<Layers>>> =>
    Effect.scopedWith((scope) =>
      Effect.flatMap(Scope.extend(buildAtOnce(...layers), scope), (given) => Effect.provide(self, given))
    )

/** Does something if a layer cannot be built, before those that were built before it are closed. */
export const tapErrorCause = <A, E, R, X, E2, R2>(
  layer: Layer.Layer<A, E, R>,
  f: (cause: Cause.Cause<E>) => Effect.Effect<X, E2, R2>
): Layer.Layer<A, E | E2, R | R2> =>
  Layer.scopedContext(
    Effect.flatMap(surroundings<R | R2>(), (before) => Effect.tapErrorCause(buildAll<A, E>([layer], before), f))
  )

/**
 * Merges layers; each is built with the services of those before it. As always, each layer is built once, but in
 * sequence.
 *
 * Each `Layer.provide`, and each merge of two, takes about 400 steps; with them, building the layers was a fifth of a
 * server's start (`node scratch/bench.mjs --only startup`). Here a layer costs 180 steps.
 */
export const inOrder = <const Layers extends ReadonlyArray<AnyLayer>>(
  ...layers: Layers
): Layer.Layer<Given<Layers>, Failures<Layers>, Needs<Layers>> =>
  Layer.scopedContext(
    Effect.flatMap(surroundings<Needs<Layers>>(), (before) => buildAll<Given<Layers>, Failures<Layers>>(layers, before))
  )

/**
 * Provides a layer with its requirements: `provideInOrder(a, b)` is `Layer.provide(b)` followed by `Layer.provide(a)`,
 * where b also gets the services of a.
 */
export const provideInOrder =
  <const Layers extends ReadonlyArray<AnyLayer>>(...layers: Layers) =>
  <A, E, R>(
    self: Layer.Layer<A, E, R>
  ): Layer.Layer<A, E | Failures<Layers>, Needs<Layers> | Exclude<R, Given<Layers>>> =>
    Layer.scopedContext(
      Effect.gen(function* () {
        const before = yield* surroundings<Needs<Layers> | Exclude<R, Given<Layers>>>()
        const given = yield* buildAll<never, Failures<Layers>>(layers, before)
        return yield* buildAll<A, E>([self], Context.merge(before, given))
      })
    )
