/**
 * The environments of a program: which there are, which is used by default, and one connection to each that is used.
 *
 * @since 0.1.0
 */
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { isRetryable } from "../client/ClientError.js"
import * as Environment from "./Environment.js"
import * as EnvironmentConfig from "./EnvironmentConfig.js"

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
  /** An environment, connected: by the first who asks for it, and anew once that connection has ended for good. */
  readonly get: (
    id: string
  ) => Effect.Effect<Environment.Environment, Environment.EnvironmentError | UnknownEnvironment>
  /** The default environment, likewise. */
  readonly getDefault: Effect.Effect<
    Environment.Environment,
    Environment.EnvironmentError | UnknownEnvironment | NoDefaultEnvironment
  >
  /** Adds an environment at a URL, or gives one another URL; whoever works in the old one goes on. */
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
interface Slot {
  readonly connect: Effect.Effect<Environment.Environment, Environment.EnvironmentError, Scope.Scope>
  /** Of those who ask at the same time one connects. */
  readonly alone: Effect.Semaphore
  current: { readonly environment: Environment.Environment; readonly scope: Scope.CloseableScope } | undefined
}

/** The environments of a configuration; connections end with the scope. */
export const make = (
  config: EnvironmentConfig.EnvironmentConfig,
  { startForMs = 300000 }: Options = {}
): Effect.Effect<Shape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const slots = new Map<string, Slot>()

    const add = (id: string, connect: Slot["connect"]) =>
      slots.set(id, { connect, alone: Effect.unsafeMakeSemaphore(1), current: undefined })

    const addRemote = (entry: EnvironmentConfig.Entry) => {
      const connect = Environment.remote(entry)
      // A program that cannot be started will not be there a moment later.
      const patient = startForMs > 0 && entry.target._tag === "Url"
      add(entry.id, patient ? Effect.retry(connect, Schedule.upTo(retries, startForMs)) : connect)
    }

    if (config.includeLocal) add(EnvironmentConfig.localId, Environment.local(EnvironmentConfig.localId))
    for (const entry of config.entries) addRemote(entry)

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

    const get: Shape["get"] = (id) =>
      Effect.suspend((): ReturnType<Shape["get"]> => {
        const slot = slots.get(id)
        return slot === undefined
          ? new UnknownEnvironment({ id, known: Array.from(slots.keys()) })
          : slot.alone.withPermits(1)(connected(slot))
      })

    const { defaultId } = config
    const refuse = (detail: string) => new EnvironmentConfig.EnvironmentConfigError({ detail })

    return {
      ids: Effect.sync(() => Array.from(slots.keys())),
      defaultId,
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
          const target = EnvironmentConfig.Target.Url({ url, connectTimeoutMs: undefined, tokenFile: undefined })
          addRemote({ id, target, initializeTimeoutMs: undefined })
        })
    } satisfies Shape
  })

/**
 * What the variables of a program configure: `environments.toml` in `CODEX_HOME` (`~/.codex`) if there is one; else the
 * URL in `EXEC_SERVER_URL`, or in `CODEX_EXEC_SERVER_URL`.
 */
export const configOf = (
  variables: NodeJS.ProcessEnv
): Either.Either<EnvironmentConfig.EnvironmentConfig, EnvironmentConfig.EnvironmentConfigError> => {
  const file = join(variables["CODEX_HOME"] || join(homedir(), ".codex"), "environments.toml")
  return existsSync(file)
    ? EnvironmentConfig.load(file)
    : EnvironmentConfig.fromUrl(variables["EXEC_SERVER_URL"] ?? variables["CODEX_EXEC_SERVER_URL"])
}

/** The environments of a program. */
export class EnvironmentManager extends Context.Tag("exec-server/EnvironmentManager")<EnvironmentManager, Shape>() {
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
    Layer.unwrapEffect(Effect.map(configOf(variables), (config) => EnvironmentManager.layer(config, options)))
}
