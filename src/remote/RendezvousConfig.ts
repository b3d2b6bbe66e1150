/**
 * The configuration of a rendezvous.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as OsError from "../protocol/OsError.js"
import * as ListenUrl from "../transport/ListenUrl.js"
import * as Tls from "../transport/Tls.js"
import type { Options } from "./Rendezvous.js"

/** The flags are invalid. The message says why. */
export class RendezvousConfigError extends Data.TaggedError("RendezvousConfigError")<{ readonly message: string }> {}

/** A token file cannot be read or is empty. The message names it. */
export class TokenFileError extends Data.TaggedError("TokenFileError")<{ readonly message: string }> {}

/** The flags as given. */
export interface Flags {
  readonly listen: string
  readonly executorTokenFile: string | undefined
  readonly clientTokenFile: string | undefined
  readonly publicUrl: string | undefined
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
  readonly insecure: boolean
}

const fail = (message: string) => Either.left(new RendezvousConfigError({ message }))

/** The token from the file, else from the variable, else none. An empty token is an error. */
const readToken = (
  file: string | undefined,
  variable: string | undefined
): Either.Either<string | undefined, RendezvousConfigError | TokenFileError> => {
  if (file === undefined) {
    return variable?.trim() === "" ? fail("the token in the environment is empty") : Either.right(variable?.trim())
  }
  return Either.try({
    try: () => readFileSync(file, "utf8").trim(),
    catch: (error) => new TokenFileError({ message: `cannot read the token ${file}: ${OsError.describe(error)}` })
  }).pipe(
    Either.filterOrLeft(
      (token) => token !== "",
      () => new TokenFileError({ message: `the token in ${file} is empty` })
    )
  )
}

/**
 * Reads the flags. Tokens without a file come from `EXEC_SERVER_EXECUTOR_TOKEN` and `EXEC_SERVER_CLIENT_TOKEN`. A
 * public address needs both, or `insecure`.
 */
export const load = (
  flags: Flags,
  variables: NodeJS.ProcessEnv
): Either.Either<Options, RendezvousConfigError | TokenFileError> =>
  Either.gen(function* () {
    const { listen, publicUrl, insecure } = flags
    const tls = yield* Either.mapLeft(
      Tls.fromFlags(flags.tlsCert, flags.tlsKey),
      (message) => new RendezvousConfigError({ message })
    )
    const place = yield* Either.mapLeft(
      ListenUrl.parse(listen, tls !== undefined),
      (message) => new RendezvousConfigError({ message })
    )
    // Executors and clients connect over the network.
    if (place === undefined || "path" in place.address) return yield* fail(ListenUrl.invalidWebSocket(listen))
    const { address, isLocal } = place
    if (publicUrl !== undefined && !/^wss?:\/\/[^/?#@]+\/*$/.test(publicUrl)) {
      return yield* fail(`invalid --public-url \`${publicUrl}\`; expected \`wss://HOST\` or \`ws://HOST\``)
    }
    const executorToken = yield* readToken(flags.executorTokenFile, variables["EXEC_SERVER_EXECUTOR_TOKEN"])
    const clientToken = yield* readToken(flags.clientTokenFile, variables["EXEC_SERVER_CLIENT_TOKEN"])
    if (!isLocal && !insecure && (executorToken === undefined || clientToken === undefined)) {
      return yield* fail(
        `refusing to listen on ${listen}: anybody who can reach it could run commands; ` +
          "give --executor-token-file and --client-token-file, or pass --insecure"
      )
    }
    return { address, executorToken, clientToken, publicUrl, tls }
  })
