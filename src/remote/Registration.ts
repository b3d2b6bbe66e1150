/**
 * Registers an executor with an environment registry, which returns the address of a rendezvous.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { isRecord } from "effect/Predicate"
import { EndpointError, RelayEndpoint } from "./RelayEndpoint.js"
import { RemoteAuth, type Shape as RemoteAuthShape, type Request } from "./RemoteAuth.js"

/**
 * The registration is not possible with these options. The message says what to set.
 *
 * @category errors
 */
export class RegistrationConfigError extends Data.TaggedError("RegistrationConfigError")<{
  readonly message: string
}> {}

/**
 * The executor to register, and the registry.
 *
 * @category models
 */
export interface Target {
  readonly environmentId: string
  /** The URL of registration requests. */
  readonly url: URL
}

/** The deadline of a registration, in milliseconds. */
const registerMs = 10000

/** The longest response body, in bytes. */
const maxAnswerBytes = 65536

/** The longest message used from a response, in characters. */
const maxMessageLength = 4096

const maxIdLength = 256

/** Statuses after which a retry may succeed. */
const retryableStatus = (status: number) => status >= 500 || status === 408 || status === 429

/**
 * Why an environment id is invalid; undefined if it is valid.
 *
 * @category utilities
 */
export const faultOfId = (environmentId: string): string | undefined => {
  if (environmentId.trim() === "") return "environment id is required for remote exec-server registration"
  if (environmentId !== environmentId.trim()) return "environment id must not contain surrounding whitespace"
  if (environmentId.length > maxIdLength) return `environment id cannot be longer than ${maxIdLength} characters`
  return /^[A-Za-z0-9_-]+$/.test(environmentId)
    ? undefined
    : "environment id must contain only ASCII letters, numbers, '-' or '_'"
}

/**
 * Validates the URL and the id. The id becomes part of the path of a request with a credential.
 *
 * @category constructors
 */
export const parseTarget = (base: string, environmentId: string): Either.Either<Target, RegistrationConfigError> => {
  const fail = (message: string) => Either.left(new RegistrationConfigError({ message }))
  const trimmed = base.trim().replace(/\/+$/, "")
  if (trimmed === "") return fail("environment registry base URL is required")
  const fault = faultOfId(environmentId)
  if (fault !== undefined) return fail(fault)
  if (!URL.canParse(trimmed)) return fail("invalid remote exec-server registration URL: it is not a URL")
  const url = new URL(trimmed)
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return fail("invalid remote exec-server registration URL: it is not http:// or https://")
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    return fail("invalid remote exec-server registration URL: user, query and fragment are not allowed")
  }
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/cloud/environment/${environmentId}/register`
  return Either.right({ environmentId, url })
}

interface Answer {
  readonly status: number
  readonly statusText: string
  readonly body: string
}

const describe = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return cause instanceof Error ? cause.message : String(cause)
}

const post = (
  url: URL,
  headers: Readonly<Record<string, string>>,
  sent: string | undefined
): Effect.Effect<Answer, EndpointError> =>
  Effect.tryPromise({
    try: async (signal) => {
      const request = { method: "POST", redirect: "manual", headers, signal } as const
      const { status, statusText, body } = await fetch(url, sent === undefined ? request : { ...request, body: sent })
      const chunks: Array<Buffer> = []
      let size = 0
      const reader = body?.getReader()
      for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
        const bytes = Buffer.from(next.value)
        chunks.push(bytes)
        size += bytes.length
        if (size > maxAnswerBytes) break
      }
      await reader?.cancel()
      return {
        status,
        statusText,
        body: Buffer.concat(chunks).subarray(0, maxAnswerBytes).toString()
      }
    },
    catch: (error) =>
      new EndpointError({
        message: `environment registry request failed: error sending request for url (${url}): ${describe(error)}`,
        retryable: true
      })
  }).pipe(
    Effect.timeoutFail({
      duration: registerMs,
      onTimeout: () =>
        new EndpointError({
          message: `environment registry request failed: no answer from ${url} within ${registerMs / 1000} seconds`,
          retryable: true
        })
    })
  )

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The message of a refusal: from its JSON, or its body. */
const refusal = (body: string, otherwise: string): { readonly code: string | undefined; readonly message: string } => {
  const json = parseJson(body)
  const error = isRecord(json) && isRecord(json["error"]) ? json["error"] : {}
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown }
  const text = body.trim().slice(0, maxMessageLength)
  return {
    code: typeof code === "string" ? code : undefined,
    message: typeof message === "string" ? message.slice(0, maxMessageLength) : text === "" ? otherwise : text
  }
}

const read = ({ status, statusText, body }: Answer): Either.Either<unknown, EndpointError> => {
  const fail = (message: string, retryable = false) => Either.left(new EndpointError({ message, retryable, status }))
  if (status === 401 || status === 403) {
    const { message } = refusal(body, "empty error body")
    return fail(
      "environment registry authentication error: " +
        `environment registry authentication failed (${status} ${statusText}): ${message}`,
      // A registry that is restarted, or whose tokens are exchanged, answers so for a while.
      true
    )
  }
  if (status < 200 || status > 299) {
    const { code, message } = refusal(body, "empty or malformed error body")
    const what = code === undefined ? `${status} ${statusText}` : `${status} ${statusText}, ${code}`
    return fail(`environment registry request failed (${what}): ${message}`, retryableStatus(status))
  }
  return Either.right(parseJson(body))
}

/** The body of a request, and the headers that belong to it. */
const contentOf = (json: unknown): Pick<Request, "headers" | "body"> =>
  json === undefined
    ? { headers: {}, body: undefined }
    : { headers: { "content-type": "application/json" }, body: JSON.stringify(json) }

/**
 * Posts a request to a registry, without following redirects. Returns the JSON of the answer; undefined if it has none.
 *
 * @category utilities
 */
export const ask = (
  url: URL,
  headers: Readonly<Record<string, string>>,
  json?: unknown
): Effect.Effect<unknown, EndpointError> => {
  const content = contentOf(json)
  return Effect.flatMap(post(url, { ...headers, ...content.headers }, content.body), read)
}

/**
 * The URL of another request about the same environment.
 *
 * @category utilities
 */
export const beside = ({ url }: Target, action: "validate" | "connect" | "direct/register"): URL =>
  Object.assign(new URL(url), { pathname: url.pathname.replace(/[^/]*$/, action) })

/**
 * The address in the answer to a registration.
 *
 * @category utilities
 */
export const addressIn = (json: unknown, { environmentId }: Target): Either.Either<string, EndpointError> => {
  const fail = (message: string) => Either.left(new EndpointError({ message, retryable: false }))
  if (!isRecord(json) || typeof json["environment_id"] !== "string" || typeof json["url"] !== "string") {
    return fail("environment registry answered without `environment_id` and `url`")
  }
  return json["environment_id"] === environmentId
    ? Either.right(json["url"])
    : fail("environment registry returned a different environment id")
}

/**
 * Asks with the executor's credential.
 *
 * @category utilities
 */
export const askAs = (auth: RemoteAuthShape, url: URL, json?: unknown): Effect.Effect<unknown, EndpointError> => {
  const request = { method: "POST", ...contentOf(json) } as const
  return Effect.flatMap(
    Effect.mapError(auth.headers(url, request), ({ message }) => new EndpointError({ message, retryable: false })),
    (credential) => Effect.flatMap(post(url, { ...credential, ...request.headers }, request.body), read)
  )
}

/**
 * Registers once, without following redirects.
 *
 * @category utilities
 */
export const register = (target: Target): Effect.Effect<string, EndpointError, RemoteAuth> =>
  Effect.flatMap(RemoteAuth, (auth) => Effect.flatMap(askAs(auth, target.url), (json) => addressIn(json, target)))

/**
 * The rendezvous that a registry names. Registers before each connection, and calls `onRegistered` after each success.
 *
 * @category layers
 */
export const layer = (
  target: Target,
  onRegistered: (environmentId: string) => Effect.Effect<void>
): Layer.Layer<RelayEndpoint, never, RemoteAuth> =>
  Layer.effect(
    RelayEndpoint,
    Effect.map(RemoteAuth, (auth) => ({
      url: register(target).pipe(
        Effect.provideService(RemoteAuth, auth),
        Effect.tap(() => onRegistered(target.environmentId))
      )
    }))
  )
