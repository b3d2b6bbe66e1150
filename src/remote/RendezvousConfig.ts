/**
 * The configuration of a rendezvous.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { readFileSync } from "node:fs"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as OsError from "../protocol/OsError.js"
import * as ListenUrl from "../transport/ListenUrl.js"
import * as Tls from "../transport/Tls.js"
import * as EnvironmentToken from "./EnvironmentToken.js"
import type { Options } from "./Rendezvous.js"

/** The flags are invalid. The message says why. */
export class RendezvousConfigError extends Data.TaggedError("RendezvousConfigError")<{ readonly message: string }> {}

/** A token or secret file cannot be read or is empty. The message names it. */
export class TokenFileError extends Data.TaggedError("TokenFileError")<{ readonly message: string }> {}

/** The flags as given. */
export interface Flags {
  readonly listen: string
  readonly executorTokenFile: string | undefined
  readonly executorSecretFile: string | undefined
  readonly clientTokenFile: string | undefined
  readonly clientSecretFile: string | undefined
  readonly publicUrl: string | undefined
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
  readonly encrypted: boolean
  readonly insecure: boolean
}

type Read<A> = Either.Either<A, RendezvousConfigError | TokenFileError>

const fail = (message: string) => Either.left(new RendezvousConfigError({ message }))

/** The trimmed content of a file. Empty is an error. */
const readFile = (what: "token" | "secret", file: string): Either.Either<string, TokenFileError> =>
  Either.try({
    try: () => readFileSync(file, "utf8").trim(),
    catch: (error) => new TokenFileError({ message: `cannot read the ${what} ${file}: ${OsError.describe(error)}` })
  }).pipe(
    Either.filterOrLeft(
      (text) => text !== "",
      () => new TokenFileError({ message: `the ${what} in ${file} is empty` })
    )
  )

/** The token of the file, else of the variable, else none. An empty token is an error. */
const readToken = (file: string | undefined, variable: string | undefined): Read<string | undefined> => {
  if (file !== undefined) return readFile("token", file)
  return variable?.trim() === "" ? fail("the token in the environment is empty") : Either.right(variable?.trim())
}

const isLong = (secret: string) => Buffer.byteLength(secret) >= EnvironmentToken.minSecretBytes

const tooShort = (where: string) => `the secret in ${where} is shorter than ${EnvironmentToken.minSecretBytes} bytes`

/** The secret of a file. */
export const readSecret = (file: string): Either.Either<string, TokenFileError> =>
  Either.filterOrLeft(readFile("secret", file), isLong, () => new TokenFileError({ message: tooShort(file) }))

/** The credential of one role: one token for all environments, tokens derived from a secret, or none. */
export const readCredential = (
  role: EnvironmentToken.Role,
  files: { readonly token: string | undefined; readonly secret: string | undefined },
  variables: NodeJS.ProcessEnv
): Read<string | ((environmentId: string) => string) | undefined> =>
  Either.gen(function* () {
    const [tokenVariable, secretVariable] = ["TOKEN", "SECRET"].map(
      (what) => `EXEC_SERVER_${role.toUpperCase()}_${what}`
    ) as [string, string]
    const token = yield* readToken(files.token, variables[tokenVariable])
    const inVariable = variables[secretVariable]?.trim()
    if (files.secret === undefined && inVariable === undefined) return token
    if (token !== undefined) {
      return yield* fail(
        "there is a token for all environments and a secret for one each; give either " +
          `--${role}-token-file or ${tokenVariable}, or --${role}-secret-file or ${secretVariable}`
      )
    }
    if (files.secret !== undefined) return EnvironmentToken.derive(yield* readSecret(files.secret), role)
    if (inVariable === undefined || !isLong(inVariable)) return yield* fail(tooShort(secretVariable))
    return EnvironmentToken.derive(inVariable, role)
  })

/**
 * Reads the flags. Tokens and secrets without a file come from variables such as `EXEC_SERVER_EXECUTOR_TOKEN`
 * and `EXEC_SERVER_CLIENT_SECRET`. A public address needs one for each role, or `insecure`.
 */
export const load = (flags: Flags, variables: NodeJS.ProcessEnv): Read<Options> =>
  Either.gen(function* () {
    const { listen, publicUrl, insecure, encrypted } = flags
    const tls = yield* Either.mapLeft(
      Tls.fromFlags(flags.tlsCert, flags.tlsKey),
      (message) => new RendezvousConfigError({ message })
    )
    // Executors and clients connect over the network.
    if (!/^wss?:/.test(listen)) return yield* fail(ListenUrl.invalidWebSocket(listen))
    const place = yield* Either.mapLeft(
      ListenUrl.parse(listen, tls !== undefined),
      (message) => new RendezvousConfigError({ message })
    )
    if (place === undefined || "path" in place.address) return yield* fail(ListenUrl.invalidWebSocket(listen))
    const { address, isLocal } = place
    if (publicUrl !== undefined && !/^wss?:\/\/[^/?#@]+\/*$/.test(publicUrl)) {
      return yield* fail(`invalid --public-url \`${publicUrl}\`; expected \`wss://HOST\` or \`ws://HOST\``)
    }
    const executorToken = yield* readCredential(
      "executor",
      { token: flags.executorTokenFile, secret: flags.executorSecretFile },
      variables
    )
    const clientToken = yield* readCredential(
      "client",
      { token: flags.clientTokenFile, secret: flags.clientSecretFile },
      variables
    )
    if (!isLocal && !insecure && (executorToken === undefined || clientToken === undefined)) {
      return yield* fail(
        `refusing to listen on ${listen}: anybody who can reach it could run commands; ` +
          "give --executor-secret-file or --executor-token-file and --client-secret-file or --client-token-file, " +
          "or pass --insecure"
      )
    }
    return { address, executorToken, clientToken, publicUrl, tls, encrypted }
  })
