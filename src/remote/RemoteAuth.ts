/**
 * The credentials of an executor for the environment registry. A service, so that it can be replaced.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { isLoopback } from "../internal/Loopback.js"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as OsError from "../protocol/OsError.js"

/**
 * There is no credential for this registry. The message is a sentence for the operator and contains no secret.
 *
 * @category errors
 */
export class RemoteAuthError extends Data.TaggedError("RemoteAuthError")<{ readonly message: string }> {}

/**
 * A request that needs credentials.
 *
 * @category models
 */
export interface Request {
  readonly method: "GET" | "POST"
  /** The headers that it has without credentials. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

/**
 * A source of credentials: a token, or what signs requests.
 *
 * @category models
 */
export interface Shape {
  /** The headers with credentials for one request to this URL. Evaluated for each request. */
  readonly headers: (url: URL, request: Request) => Effect.Effect<Readonly<Record<string, string>>, RemoteAuthError>
}

/** The longest token, in bytes. */
const maxTokenBytes = 65536

const isOpenAi = ({ protocol, hostname }: URL) => protocol === "https:" && /(^|\.)openai\.(com|org)$/.test(hostname)

type Checked<A> = Either.Either<A, RemoteAuthError>

const fail = (message: string) => Either.left(new RemoteAuthError({ message }))

const readToken = (path: string): Effect.Effect<string, RemoteAuthError> =>
  Effect.try({
    try: () => readFileSync(path, "utf8").trim(),
    catch: (error) =>
      new RemoteAuthError({ message: `cannot read the remote token ${path}: ${OsError.describe(error)}` })
  })

/** The header for a token, if it is one line of printable ASCII. */
const checked = (token: string, source: string): Checked<Readonly<Record<string, string>>> =>
  /^[\x21-\x7e]+$/.test(token) && token.length <= maxTokenBytes
    ? Either.right({ authorization: `Bearer ${token}` })
    : fail(`the remote token in ${source} is empty, or not one line of printable ASCII without spaces`)

/**
 * The sources of an executor's token.
 *
 * @category models
 */
export interface BearerOptions {
  /** A file with the token. It wins over the variables. */
  readonly tokenFile: string | undefined
  /** Variables, of which `EXEC_SERVER_REMOTE_TOKEN` and `CODEX_API_KEY` are read. */
  readonly variables: NodeJS.ProcessEnv
  /** Whether the token may be sent to other machines over plain http. */
  readonly insecure: boolean
}

/** The source of the token for a URL: a file to read, or the headers with the token. */
type Source = Data.TaggedEnum<{
  File: { readonly path: string }
  Headers: { readonly headers: Readonly<Record<string, string>> }
}>
const Source = Data.taggedEnum<Source>()

const sourceOf = ({ tokenFile, variables, insecure }: BearerOptions, url: URL): Checked<Source> => {
  const shown = (token: string, source: string) =>
    Either.map(checked(token, source), (headers) => Source.Headers({ headers }))
  const own = tokenFile === undefined ? variables["EXEC_SERVER_REMOTE_TOKEN"] : undefined
  if (tokenFile !== undefined || own) {
    if (url.protocol !== "https:" && !isLoopback(url.hostname) && !insecure) {
      return fail("refusing to send the remote token over plain http; use https, or pass --insecure")
    }
    return own ? shown(own, "EXEC_SERVER_REMOTE_TOKEN") : Either.right(Source.File({ path: tokenFile ?? "" }))
  }
  const apiKey = variables["CODEX_API_KEY"]
  if (!apiKey) {
    return fail(
      "remote exec-server registration requires authentication; " +
        "give --remote-token-file, or set EXEC_SERVER_REMOTE_TOKEN or CODEX_API_KEY"
    )
  }
  return isLoopback(url.hostname) || isOpenAi(url)
    ? shown(apiKey, "CODEX_API_KEY")
    : fail(
        "remote exec-server API-key authentication is restricted to HTTPS openai.com and openai.org hosts " +
          "and subdomains or loopback hosts"
      )
}

/**
 * Whether the options name a token that may be sent to this URL. Does not read its file.
 *
 * @category utilities
 */
export const check = (options: BearerOptions, url: URL): Either.Either<void, RemoteAuthError> =>
  Either.map(sourceOf(options, url), () => undefined)

/**
 * A bearer token from a file, or else from `EXEC_SERVER_REMOTE_TOKEN` or `CODEX_API_KEY`. The file is read for every
 * request, so that the token can be renewed. Tokens are not sent to another machine over plain http, unless `insecure`.
 * That of `CODEX_API_KEY` is sent only to its issuer and to this machine.
 *
 * @category constructors
 */
export const make = (options: BearerOptions): Shape => ({
  headers: (url) =>
    Effect.gen(function* () {
      const source = yield* sourceOf(options, url)
      if (source._tag === "Headers") return source.headers
      return yield* checked(yield* readToken(source.path), source.path)
    })
})

/**
 * The credentials of an executor.
 *
 * @category tags
 */
export class RemoteAuth extends Context.Tag("exec-server/RemoteAuth")<RemoteAuth, Shape>() {
  /** A bearer token, from a file or the environment. */
  static readonly layerBearer = (options: BearerOptions): Layer.Layer<RemoteAuth> =>
    Layer.effect(
      RemoteAuth,
      Effect.as(
        options.tokenFile === undefined ? Effect.void : PrivateFile.warn("the token in", options.tokenFile),
        make(options)
      )
    )
}

/**
 * A bearer token, from a file or the environment.
 *
 * @category layers
 */
export const layerBearer: (options: BearerOptions) => Layer.Layer<RemoteAuth> = RemoteAuth.layerBearer
