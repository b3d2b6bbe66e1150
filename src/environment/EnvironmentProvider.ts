/**
 * The source of a program's environments: its configuration, or a custom provider.
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

/**
 * One available environment.
 *
 * @category models
 */
export interface Source extends EnvironmentConfig.Enabled {
  readonly id: string
  /** Whether its server may not be running yet; then failed connection attempts are retried. */
  readonly mayBeStarting: boolean
  /** Connects; the scope closes the connection. */
  readonly connect: Effect.Effect<Environment.Environment, Environment.EnvironmentError, Scope.Scope>
}

/**
 * The environments of a provider.
 *
 * @category models
 */
export interface Provided extends Pick<EnvironmentConfig.EnvironmentConfig, "includeLocal" | "defaultId" | "initial"> {
  /** In order, without this machine, which `includeLocal` adds in front. */
  readonly sources: ReadonlyArray<Source>
}

/** Warns once if other users can read the token file. */
const warnOnce = (target: EnvironmentConfig.Target): Effect.Effect<void> => {
  let warned = false
  return Effect.suspend(() => {
    if (warned || target._tag !== "Url" || target.tokenFile === undefined) return Effect.void
    warned = true
    return PrivateFile.warn("the token in", target.tokenFile)
  })
}

/**
 * Makes the source of a configured environment.
 *
 * @category utilities
 */
export const sourceOf = (entry: EnvironmentConfig.Entry): Source => {
  const { id, target, execEnabled = true, filesystemEnabled = true } = entry
  return {
    id,
    execEnabled,
    filesystemEnabled,
    // A program that cannot be started now will not work later either.
    mayBeStarting: target._tag === "Url",
    connect: Effect.zipRight(warnOnce(target), Environment.remote(entry))
  }
}

/**
 * The environments of a configuration.
 *
 * @category constructors
 */
export const fromConfig = ({ entries, ...config }: EnvironmentConfig.EnvironmentConfig): Provided => ({
  ...config,
  sources: entries.map(sourceOf)
})

/**
 * Provides the environments of a program; evaluated when the manager is built.
 *
 * @category tags
 */
export class EnvironmentProvider extends Context.Tag("exec-server/EnvironmentProvider")<
  EnvironmentProvider,
  Effect.Effect<Provided, EnvironmentConfig.EnvironmentConfigError>
>() {
  /** The environments of a configuration; fails with its error when used. */
  static readonly layerConfig = (
    config: Either.Either<EnvironmentConfig.EnvironmentConfig, EnvironmentConfig.EnvironmentConfigError>
  ): Layer.Layer<EnvironmentProvider> => Layer.succeed(EnvironmentProvider, Effect.map(config, fromConfig))

  /** The environments of a program's configuration, see `EnvironmentConfig.fromVariables`. */
  static readonly layerVariables = (variables: NodeJS.ProcessEnv): Layer.Layer<EnvironmentProvider> =>
    Layer.succeed(
      EnvironmentProvider,
      Effect.map(
        Effect.suspend(() => EnvironmentConfig.fromVariables(variables)),
        fromConfig
      )
    )
}

/**
 * The environments of a configuration; fails with its error when used.
 *
 * @category layers
 */
export const layerConfig: (
  config: Either.Either<EnvironmentConfig.EnvironmentConfig, EnvironmentConfig.EnvironmentConfigError>
) => Layer.Layer<EnvironmentProvider> = EnvironmentProvider.layerConfig

/**
 * The environments that a program's variables configure.
 *
 * @category layers
 */
export const layerVariables: (variables: NodeJS.ProcessEnv) => Layer.Layer<EnvironmentProvider> =
  EnvironmentProvider.layerVariables
