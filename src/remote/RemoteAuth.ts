/**
 * What an executor shows to the environment registry: a service to be replaced by others.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as OsError from "../protocol/OsError.js"

/** There is nothing to show, or not to this registry; the message is a sentence for the operator and holds no secret. */
export class RemoteAuthError extends Data.TaggedError("RemoteAuthError")<{ readonly message: string }> {}

/** A source of credentials. */
export interface Shape {
  /** The headers of one request to this URL; asked for again for each. */
  readonly headers: (url: URL) => Effect.Effect<Readonly<Record<string, string>>, RemoteAuthError>
}

/** The longest token, in bytes. */
const maxTokenBytes = 65536

const isLoopback = ({ hostname }: URL) =>
  hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname)

const isOpenAi = ({ protocol, hostname }: URL) => protocol === "https:" && /(^|\.)openai\.(com|org)$/.test(hostname)

const fail = (message: string) => Effect.fail(new RemoteAuthError({ message }))

const readToken = (path: string): Effect.Effect<string, RemoteAuthError> =>
  Effect.try({
    try: () => readFileSync(path, "utf8").trim(),
    catch: (error) =>
      new RemoteAuthError({ message: `cannot read the remote token ${path}: ${OsError.describe(error)}` })
  })

/** What may stand in a header, in one line. */
const checked = (token: string, source: string): Effect.Effect<Readonly<Record<string, string>>, RemoteAuthError> =>
  /^[\x21-\x7e]+$/.test(token) && token.length <= maxTokenBytes
    ? Effect.succeed({ authorization: `Bearer ${token}` })
    : fail(`the remote token in ${source} is empty, or not one line of printable ASCII without spaces`)

/** Where an executor's token comes from. */
export interface BearerOptions {
  /** A file that holds it; before the variables. */
  readonly tokenFile: string | undefined
  /** Where `EXEC_SERVER_REMOTE_TOKEN` and `CODEX_API_KEY` are looked for. */
  readonly variables: NodeJS.ProcessEnv
  /** Whether it may be sent over plain http to other machines. */
  readonly insecure: boolean
}

/**
 * A bearer token: from a file, which is read again for every request, so that a token can be renewed; or else from
 * `EXEC_SERVER_REMOTE_TOKEN`, or `CODEX_API_KEY`. None of them is sent where anybody on the way could read it,
 * unless `insecure`; and the last one goes to nobody but its issuer and this machine.
 */
export const make = (options: BearerOptions): Shape => ({
  headers: (url) =>
    Effect.suspend(() => {
      const { tokenFile, variables, insecure } = options
      const own = tokenFile === undefined ? variables["EXEC_SERVER_REMOTE_TOKEN"] : undefined
      if (tokenFile !== undefined || own) {
        if (url.protocol !== "https:" && !isLoopback(url) && !insecure) {
          return fail("refusing to send the remote token over plain http; use https, or pass --insecure")
        }
        return own
          ? checked(own, "EXEC_SERVER_REMOTE_TOKEN")
          : Effect.flatMap(readToken(tokenFile ?? ""), (token) => checked(token, tokenFile ?? ""))
      }
      const apiKey = variables["CODEX_API_KEY"]
      if (!apiKey) {
        return fail(
          "remote exec-server registration requires authentication; " +
            "give --remote-token-file, or set EXEC_SERVER_REMOTE_TOKEN or CODEX_API_KEY"
        )
      }
      return isLoopback(url) || isOpenAi(url)
        ? checked(apiKey, "CODEX_API_KEY")
        : fail(
            "remote exec-server API-key authentication is restricted to HTTPS openai.com and openai.org hosts " +
              "and subdomains or loopback hosts"
          )
    })
})

/** The credentials of an executor. */
export class RemoteAuth extends Context.Tag("exec-server/RemoteAuth")<RemoteAuth, Shape>() {
  /** A bearer token, from a file or the environment. */
  static readonly layerBearer = (options: BearerOptions): Layer.Layer<RemoteAuth> =>
    Layer.succeed(RemoteAuth, make(options))
}
