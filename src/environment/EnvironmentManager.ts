/**
 * The environments of a program: their ids, the default one, and one shared connection to each that is used.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { isRetryable } from "../client/ClientError.js"
import * as Environment from "./Environment.js"
import * as EnvironmentConfig from "./EnvironmentConfig.js"
import type { Source } from "./EnvironmentProvider.js"
import * as EnvironmentProvider from "./EnvironmentProvider.js"

/**
 * No environment has this id.
 *
 * @category errors
 */
export class UnknownEnvironment extends Data.TaggedError("UnknownEnvironment")<{
  readonly id: string
  readonly known: ReadonlyArray<string>
}> {
  override get message() {
    const known = this.known.length === 0 ? "there are none" : `the known ones are ${this.known.join(", ")}`
    return `unknown environment \`${this.id}\`: ${known}`
  }
}

/**
 * There is no default environment.
 *
 * @category errors
 */
export class NoDefaultEnvironment extends Data.TaggedError("NoDefaultEnvironment")<object> {
  override get message() {
    return "there is no default environment"
  }
}

/**
 * Options of a manager.
 *
 * @category models
 */
export interface Options {
  /** How long to retry the connection to a server that may still be starting; 5 minutes by default. */
  readonly startFor?: Duration.DurationInput | undefined
}

/**
 * The environments of a program.
 *
 * @category models
 */
export interface Shape {
  /** The ids of all environments: `local` first, if included, then in configured order. */
  readonly ids: Effect.Effect<ReadonlyArray<string>>
  /** The id of the default environment; undefined if there is none. */
  readonly defaultId: string | undefined
  /**
   * The ids that new work starts with: all, the default one first, if configured by `environments.toml`; only the
   * default one if configured by a variable. Empty if there is no default.
   */
  readonly initialIds: ReadonlyArray<string>
  /** What an environment may be used for; does not connect to it. Without an id, nothing is enabled. */
  readonly enabled: (id: string | undefined) => Effect.Effect<EnvironmentConfig.Enabled, UnknownEnvironment>
  /** Gets a connected environment. The first caller connects; reconnects after the connection has ended for good. */
  readonly get: (
    id: string
  ) => Effect.Effect<Environment.Environment, Environment.EnvironmentError | UnknownEnvironment>
  /** Gets the default environment, like `get`. */
  readonly getDefault: Effect.Effect<
    Environment.Environment,
    Environment.EnvironmentError | UnknownEnvironment | NoDefaultEnvironment
  >
  /** Adds an environment at a URL, or changes the URL of an existing one and closes its connection. */
  readonly upsert: (id: string, url: string) => Effect.Effect<void, EnvironmentConfig.EnvironmentConfigError>
}

/** The backoff between connection attempts, in milliseconds: doubled each time, up to the maximum. */
const firstRetryMs = 1000
const maxRetryMs = 30000

const retries = Schedule.exponential(firstRetryMs).pipe(
  Schedule.union(Schedule.spaced(maxRetryMs)),
  Schedule.whileInput((error: Environment.EnvironmentError) => error._tag !== "TokenError" && isRetryable(error))
)

/** An environment's source and its current connection. */
interface Slot extends Pick<Source, "connect" | "execEnabled" | "filesystemEnabled"> {
  /** Held while connecting or closing, so that concurrent callers share one connection. */
  readonly mutex: Effect.Semaphore
  /** Completed when `upsert` replaces this slot. */
  readonly replaced: Deferred.Deferred<void>
  current: { readonly environment: Environment.Environment; readonly scope: Scope.CloseableScope } | undefined
}

/**
 * Makes a manager of a configuration; the scope closes all connections.
 *
 * @category constructors
 */
export const make = (
  config: EnvironmentConfig.EnvironmentConfig,
  options: Options = {}
): Effect.Effect<Shape, never, Scope.Scope> => makeProvided(EnvironmentProvider.fromConfig(config), options)

/**
 * Makes a manager of a provider's environments; the scope closes all connections.
 *
 * @category constructors
 */
export const makeProvided = (
  { sources, includeLocal, defaultId, initial }: EnvironmentProvider.Provided,
  { startFor = "5 minutes" }: Options = {}
): Effect.Effect<Shape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const slots = new Map<string, Slot>()

    const add = ({ id, connect, mayBeStarting, execEnabled, filesystemEnabled }: Source) => {
      const retried = Duration.greaterThan(startFor, 0) && mayBeStarting
      slots.set(id, {
        connect: retried ? Effect.retry(connect, Schedule.upTo(retries, startFor)) : connect,
        execEnabled,
        filesystemEnabled,
        mutex: Effect.unsafeMakeSemaphore(1),
        replaced: Deferred.unsafeMake(FiberId.none),
        current: undefined
      })
    }

    const { localId, allEnabled } = EnvironmentConfig
    if (includeLocal) add({ id: localId, mayBeStarting: false, ...allEnabled, connect: Environment.local(localId) })
    for (const source of sources) add(source)
    const configured = Array.from(slots.keys())

    const connected = (slot: Slot) =>
      Effect.gen(function* () {
        if (slot.current !== undefined) {
          if (!(yield* Environment.hasEnded(slot.current.environment))) return slot.current.environment
          yield* Scope.close(slot.current.scope, Exit.void)
          slot.current = undefined
        }
        return yield* Effect.uninterruptibleMask((restore) =>
          Effect.gen(function* () {
            const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
            const environment = yield* restore(Scope.extend(slot.connect, own)).pipe(
              Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
            )
            slot.current = { environment, scope: own }
            return environment
          })
        )
      })

    const unknown = (id: string) => new UnknownEnvironment({ id, known: Array.from(slots.keys()) })

    const get: Shape["get"] = (id) =>
      Effect.suspend((): ReturnType<Shape["get"]> => {
        const slot = slots.get(id)
        if (slot === undefined) return unknown(id)
        // If `upsert` replaces the slot during the wait, start again with the new slot.
        return Effect.raceFirst(
          Effect.asSome(slot.mutex.withPermits(1)(connected(slot))),
          Effect.as(Deferred.await(slot.replaced), Option.none<Environment.Environment>())
        ).pipe(
          Effect.flatMap(Option.match({ onNone: () => get(id), onSome: (environment) => Effect.succeed(environment) }))
        )
      })

    const disconnect = (slot: Slot) =>
      Effect.zipRight(
        Deferred.succeed(slot.replaced, undefined),
        slot.mutex.withPermits(1)(
          Effect.suspend(() => (slot.current === undefined ? Effect.void : Scope.close(slot.current.scope, Exit.void)))
        )
      )

    const initialIds =
      defaultId === undefined
        ? []
        : [defaultId, ...(initial === "all" ? configured.filter((id) => id !== defaultId) : [])]

    const enabled: Shape["enabled"] = (id) =>
      Effect.suspend(() => {
        if (id === undefined) return Effect.succeed(EnvironmentConfig.noneEnabled)
        const slot = slots.get(id)
        if (slot === undefined) return unknown(id)
        const { execEnabled, filesystemEnabled } = slot
        return Effect.succeed({ execEnabled, filesystemEnabled })
      })

    const refuse = (detail: string) => new EnvironmentConfig.EnvironmentConfigError({ detail })

    return {
      ids: Effect.sync(() => Array.from(slots.keys())),
      defaultId,
      initialIds,
      enabled,
      get,
      getDefault: defaultId === undefined ? new NoDefaultEnvironment() : get(defaultId),
      upsert: (id, given) =>
        Effect.gen(function* () {
          if (given.trim().toLowerCase() === "none") {
            return yield* refuse("remote environment cannot use disabled exec-server url")
          }
          if (given.trim() === "") return yield* refuse("remote environment requires an exec-server url")
          yield* EnvironmentConfig.checkId(id)
          const url = yield* EnvironmentConfig.parseUrl(given)
          const target = EnvironmentConfig.Target.Url({
            url,
            connectTimeoutMs: undefined,
            tokenFile: undefined,
            insecure: false
          })
          const old = slots.get(id)
          // Replace the slot before closing the old connection: new callers get the new one.
          add(EnvironmentProvider.sourceOf({ id, target, initializeTimeoutMs: undefined }))
          if (old !== undefined) yield* disconnect(old)
        })
    } satisfies Shape
  })

/**
 * The environments of a program.
 *
 * @category tags
 */
export class EnvironmentManager extends Context.Tag("exec-server/EnvironmentManager")<EnvironmentManager, Shape>() {
  /** A manager of the environments of the `EnvironmentProvider`. */
  static readonly layerProvider = (
    options: Options = {}
  ): Layer.Layer<
    EnvironmentManager,
    EnvironmentConfig.EnvironmentConfigError,
    EnvironmentProvider.EnvironmentProvider
  > =>
    Layer.scoped(
      EnvironmentManager,
      Effect.flatMap(Effect.flatten(EnvironmentProvider.EnvironmentProvider), (provided) =>
        makeProvided(provided, options)
      )
    )

  /** A manager of a configuration. */
  static readonly layer = (
    config: EnvironmentConfig.EnvironmentConfig,
    options: Options = {}
  ): Layer.Layer<EnvironmentManager> => Layer.scoped(EnvironmentManager, make(config, options))

  /** A manager of the configuration of a program, see `EnvironmentConfig.fromVariables`. */
  static readonly layerVariables = (
    variables: NodeJS.ProcessEnv,
    options: Options = {}
  ): Layer.Layer<EnvironmentManager, EnvironmentConfig.EnvironmentConfigError> =>
    Layer.provide(
      EnvironmentManager.layerProvider(options),
      EnvironmentProvider.EnvironmentProvider.layerVariables(variables)
    )
}

/**
 * A manager of a configuration.
 *
 * @category layers
 */
export const layer: (
  config: EnvironmentConfig.EnvironmentConfig,
  options?: Options
) => Layer.Layer<EnvironmentManager> = EnvironmentManager.layer

/**
 * A manager of the environments that a program's variables configure.
 *
 * @category layers
 * @example
 * EnvironmentManager.layerVariables(process.env, { startFor: "1 minute" })
 */
export const layerVariables: (
  variables: NodeJS.ProcessEnv,
  options?: Options
) => Layer.Layer<EnvironmentManager, EnvironmentConfig.EnvironmentConfigError> = EnvironmentManager.layerVariables

/**
 * A manager of a provider's environments.
 *
 * @category layers
 */
export const layerProvider: (
  options?: Options
) => Layer.Layer<
  EnvironmentManager,
  EnvironmentConfig.EnvironmentConfigError,
  EnvironmentProvider.EnvironmentProvider
> = EnvironmentManager.layerProvider
