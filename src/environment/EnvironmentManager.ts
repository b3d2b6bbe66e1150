/**
 * The environments of a program: which there are, which is used by default, and one connection to each that is used.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
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

/** No environment has this id. */
export class UnknownEnvironment extends Data.TaggedError("UnknownEnvironment")<{
  readonly id: string
  readonly known: ReadonlyArray<string>
}> {
  override get message() {
    const known = this.known.length === 0 ? "there are none" : `there are ${this.known.join(", ")}`
    return `unknown environment \`${this.id}\`: ${known}`
  }
}

/** There is no default environment. */
export class NoDefaultEnvironment extends Data.TaggedError("NoDefaultEnvironment")<object> {
  override get message() {
    return "there is no default environment"
  }
}

/** What can be chosen about a manager. */
export interface Options {
  /** How long a server that is not there yet is waited for when an environment is first used, in ms; 5 min. */
  readonly startForMs?: number | undefined
}

/** The environments of a program. */
export interface Shape {
  /** Their ids: this machine first, where it is one, then as configured. */
  readonly ids: Effect.Effect<ReadonlyArray<string>>
  /** The id of the default one; undefined where there is none. */
  readonly defaultId: string | undefined
  /**
   * Those that new work starts with, the default one first: with an `environments.toml` all of them, with a variable that
   * one alone. None, where there is no default.
   */
  readonly initialIds: ReadonlyArray<string>
  /** What an environment is there for, which may be known before it is connected; without an id, of none: nothing. */
  readonly enabled: (id: string | undefined) => Effect.Effect<EnvironmentConfig.Enabled, UnknownEnvironment>
  /** An environment, connected: by the first who asks for it, and anew once that connection has ended for good. */
  readonly get: (
    id: string
  ) => Effect.Effect<Environment.Environment, Environment.EnvironmentError | UnknownEnvironment>
  /** The default environment, likewise. */
  readonly getDefault: Effect.Effect<
    Environment.Environment,
    Environment.EnvironmentError | UnknownEnvironment | NoDefaultEnvironment
  >
  /** Adds an environment at a URL, or gives one another URL: the connection to the old one ends. */
  readonly upsert: (id: string, url: string) => Effect.Effect<void, EnvironmentConfig.EnvironmentConfigError>
}

/** Between two attempts to connect, in milliseconds: twice as long each time, up to a maximum. */
const firstRetryMs = 1000
const maxRetryMs = 30000

const retries = Schedule.exponential(firstRetryMs).pipe(
  Schedule.union(Schedule.spaced(maxRetryMs)),
  Schedule.whileInput((error: Environment.EnvironmentError) => error._tag !== "TokenError" && isRetryable(error))
)

/** A source of one environment, and the connection to it. */
interface Slot extends Pick<Source, "connect" | "execEnabled" | "filesystemEnabled"> {
  /** Of those who ask at the same time one connects. */
  readonly alone: Effect.Semaphore
  /** Another source has taken its place. */
  readonly replaced: Deferred.Deferred<void>
  current: { readonly environment: Environment.Environment; readonly scope: Scope.CloseableScope } | undefined
}

/** The environments of a configuration; connections end with the scope. */
export const make = (
  config: EnvironmentConfig.EnvironmentConfig,
  options: Options = {}
): Effect.Effect<Shape, never, Scope.Scope> => makeProvided(EnvironmentProvider.fromConfig(config), options)

/** The environments that a provider has; connections end with the scope. */
export const makeProvided = (
  { sources, includeLocal, defaultId, initial }: EnvironmentProvider.Provided,
  { startForMs = 300000 }: Options = {}
): Effect.Effect<Shape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const slots = new Map<string, Slot>()

    const add = ({ id, connect, isAwaited, execEnabled, filesystemEnabled }: Source) => {
      const patient = startForMs > 0 && isAwaited
      slots.set(id, {
        connect: patient ? Effect.retry(connect, Schedule.upTo(retries, startForMs)) : connect,
        execEnabled,
        filesystemEnabled,
        alone: Effect.unsafeMakeSemaphore(1),
        replaced: Deferred.unsafeMake(FiberId.none),
        current: undefined
      })
    }

    const { localId, allEnabled } = EnvironmentConfig
    if (includeLocal) add({ id: localId, isAwaited: false, ...allEnabled, connect: Environment.local(localId) })
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
        // Who waits for a connection that nobody wants any more gets the one in its place.
        return Effect.raceFirst(
          Effect.asSome(slot.alone.withPermits(1)(connected(slot))),
          Effect.as(Deferred.await(slot.replaced), Option.none<Environment.Environment>())
        ).pipe(
          Effect.flatMap(Option.match({ onNone: () => get(id), onSome: (environment) => Effect.succeed(environment) }))
        )
      })

    const disconnect = (slot: Slot) =>
      Effect.zipRight(
        Deferred.succeed(slot.replaced, undefined),
        slot.alone.withPermits(1)(
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
          // In one step: whoever asks from now on gets the new one.
          add(EnvironmentProvider.sourceOf({ id, target, initializeTimeoutMs: undefined }))
          if (old !== undefined) yield* disconnect(old)
        })
    } satisfies Shape
  })

/** The environments of a program. */
export class EnvironmentManager extends Context.Tag("exec-server/EnvironmentManager")<EnvironmentManager, Shape>() {
  /** Those that a provider has. */
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

  /** Those of a configuration. */
  static readonly layer = (
    config: EnvironmentConfig.EnvironmentConfig,
    options: Options = {}
  ): Layer.Layer<EnvironmentManager> => Layer.scoped(EnvironmentManager, make(config, options))

  /** Those that a program's variables configure. */
  static readonly layerVariables = (
    variables: NodeJS.ProcessEnv,
    options: Options = {}
  ): Layer.Layer<EnvironmentManager, EnvironmentConfig.EnvironmentConfigError> =>
    Layer.provide(
      EnvironmentManager.layerProvider(options),
      EnvironmentProvider.EnvironmentProvider.layerVariables(variables)
    )
}
