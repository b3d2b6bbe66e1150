/**
 * Where the environments of a program come from: what is configured, or whatever else a program has in its place.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as Environment from "./Environment.js"
import * as EnvironmentConfig from "./EnvironmentConfig.js"

/** One environment that there is. */
export interface Source extends EnvironmentConfig.Enabled {
  readonly id: string
  /** Whether somebody may still have to start its server: then attempts that fail are repeated. */
  readonly isAwaited: boolean
  /** Connects; the environment ends with the scope. */
  readonly connect: Effect.Effect<Environment.Environment, Environment.EnvironmentError, Scope.Scope>
}

/** What a provider has. */
export interface Provided extends Pick<EnvironmentConfig.EnvironmentConfig, "includeLocal" | "defaultId" | "initial"> {
  /** In order; this machine, which `includeLocal` puts in front of them, is none of them. */
  readonly sources: ReadonlyArray<Source>
}

/** Warns of a token that others may read; the first time alone. */
const warnOnce = (target: EnvironmentConfig.Target): Effect.Effect<void> => {
  let warned = false
  return Effect.suspend(() => {
    if (warned || target._tag !== "Url" || target.tokenFile === undefined) return Effect.void
    warned = true
    return PrivateFile.warn("the token in", target.tokenFile)
  })
}

/** The source of a configured environment. */
export const sourceOf = (entry: EnvironmentConfig.Entry): Source => {
  const { id, target, execEnabled = true, filesystemEnabled = true } = entry
  return {
    id,
    execEnabled,
    filesystemEnabled,
    // A program that cannot be started will not be there a moment later.
    isAwaited: target._tag === "Url",
    connect: Effect.zipRight(warnOnce(target), Environment.remote(entry))
  }
}

/** What a configuration has. */
export const fromConfig = ({ entries, ...config }: EnvironmentConfig.EnvironmentConfig): Provided => ({
  ...config,
  sources: entries.map(sourceOf)
})

/** Gives the environments of a program when they are first needed. */
export class EnvironmentProvider extends Context.Tag("exec-server/EnvironmentProvider")<
  EnvironmentProvider,
  Effect.Effect<Provided, EnvironmentConfig.EnvironmentConfigError>
>() {
  /** Those of a configuration, or what is wrong with it. */
  static readonly layerConfig = (
    config: Either.Either<EnvironmentConfig.EnvironmentConfig, EnvironmentConfig.EnvironmentConfigError>
  ): Layer.Layer<EnvironmentProvider> => Layer.succeed(EnvironmentProvider, Effect.map(config, fromConfig))

  /** Those that a program's variables configure. */
  static readonly layerVariables = (variables: NodeJS.ProcessEnv): Layer.Layer<EnvironmentProvider> =>
    Layer.succeed(
      EnvironmentProvider,
      Effect.map(
        Effect.suspend(() => EnvironmentConfig.fromVariables(variables)),
        fromConfig
      )
    )
}
