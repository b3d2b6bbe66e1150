/**
 * Composes layers cheaply, for a fast start of the server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

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

/** Builds layers in sequence, each with the services before it. Returns the services built. */
const buildAll = <A, E>(layers: ReadonlyArray<AnyLayer>, before: Context.Context<never>) =>
  Effect.gen(function* () {
    const memoMap = yield* Layer.CurrentMemoMap
    const scope = yield* Effect.scope
    let made: Context.Context<never> = Context.empty()
    // The callers' signatures state the requirements and results; types cannot follow them through the loop.
    for (const layer of layers as ReadonlyArray<Layer.Layer<never, E>>) {
      const built = Layer.buildWithMemoMap(layer, memoMap, scope)
      made = Context.merge(made, yield* Effect.provide(built, Context.merge(before, made)))
    }
    return made as Context.Context<A>
  })

/** The current context, whatever it holds. */
const surroundings = <R>(): Effect.Effect<Context.Context<never>, never, R> => Effect.context<R>()

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
