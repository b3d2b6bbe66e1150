/**
 * How a command exits if it does not succeed: its failures, and the exit status of each.
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

/** The command exits with this status, without a further message. */
export class Exited extends Data.TaggedError("Exited")<{ readonly code: number }> {}

/** The command was called incorrectly; the message says how to call it. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

/** The command failed; the message is one sentence. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}

/** Failures that can be usage errors: a wrong flag, variable or configuration file. */
type Usage =
  | UsageError
  | ConfigError
  | RendezvousConfigError
  | EnvironmentConfigError
  | UnknownEnvironment
  | TokenError
  | InvalidRequest

// By tag, not by class: a server must not load the modules of these classes.
const usages: { readonly [Tag in Usage["_tag"]]: (failure: Extract<Usage, { readonly _tag: Tag }>) => boolean } = {
  UsageError: () => true,
  ConfigError: () => true,
  RendezvousConfigError: () => true,
  EnvironmentConfigError: ({ unreadable }) => unreadable !== true,
  UnknownEnvironment: () => true,
  TokenError: ({ inFile }) => !inFile,
  // The values of a command's requests come from its command line.
  InvalidRequest: () => true
}

const isUsage = (failure: unknown): boolean => {
  if (!(failure instanceof Error && "_tag" in failure)) return false
  const check = new Map<unknown, (failure: never) => boolean>(Object.entries(usages)).get(failure._tag)
  // The cast is safe: each tag has the check for its own class.
  return check?.(failure as never) ?? false
}

/**
 * The exit status of a failure: that of `Exited`; 2 for a usage error, an invalid command line, variable or
 * configuration file; 1 for any other failure.
 */
export const exitStatusOf = (failure: unknown): number => {
  if (failure instanceof Exited) return failure.code
  return isUsage(failure) ? 2 : 1
}
