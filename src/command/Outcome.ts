/**
 * How a command ends when it does not simply succeed.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { InvalidRequest } from "../client/ClientError.js"
import type { TokenError } from "../client/Token.js"
import type { EnvironmentConfigError } from "../environment/EnvironmentConfig.js"
import type { UnknownEnvironment } from "../environment/EnvironmentManager.js"
import type { RendezvousConfigError } from "../remote/RendezvousConfig.js"
import type { ConfigError } from "../server/ServerConfig.js"

/** It ends with this status; everything there is to say has been said. */
export class Exited extends Data.TaggedError("Exited")<{ readonly code: number }> {}

/** It was called in a way that makes no sense; the message says how it is called. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

/** It could not do its work; the message is one sentence. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}

/** Failures of a call or a setting that makes no sense, which some of them are under a condition only. */
type Usage =
  | UsageError
  | ConfigError
  | RendezvousConfigError
  | EnvironmentConfigError
  | UnknownEnvironment
  | TokenError
  | InvalidRequest

// By their tags: a server does not load the modules of the others.
const usages: { readonly [Tag in Usage["_tag"]]: (failure: Extract<Usage, { readonly _tag: Tag }>) => boolean } = {
  UsageError: () => true,
  ConfigError: () => true,
  RendezvousConfigError: () => true,
  EnvironmentConfigError: ({ unreadable }) => unreadable !== true,
  UnknownEnvironment: () => true,
  TokenError: ({ inFile }) => !inFile,
  // What a command asks for comes from its flags and words.
  InvalidRequest: () => true
}

const isUsage = (failure: unknown): boolean => {
  if (!(failure instanceof Error && "_tag" in failure)) return false
  const check = new Map<unknown, (failure: never) => boolean>(Object.entries(usages)).get(failure._tag)
  // Every tag has the check of its own class.
  return check?.(failure as never) ?? false
}

/**
 * The exit status of a failure. 2: the command line, a variable or a configuration file says what makes no sense, and
 * nothing else had to be looked at to see that. 1: it could not be done.
 */
export const statusOf = (failure: unknown): number => {
  if (failure instanceof Exited) return failure.code
  return isUsage(failure) ? 2 : 1
}
