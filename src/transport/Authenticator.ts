/**
 * Authenticates clients by bearer tokens in the `Authorization` header. Secrets are read from files, and never appear
 * in a message or a log.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { createHash, timingSafeEqual } from "node:crypto"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PrivateFile from "../internal/PrivateFile.js"
import { maxDateMs } from "../internal/Timer.js"
import * as OsError from "../protocol/OsError.js"
import * as Grant from "../session/Grant.js"
import { Shares } from "../session/Shares.js"
import { ConsolePage } from "./ConsolePage.js"

/**
 * The capability token: in a file, or its SHA-256 in 64 hex digits.
 *
 * @category models
 */
export type TokenSource = { readonly file: string } | { readonly sha256: string }

/**
 * The requirements on a signed bearer token, a JSON Web Token with HS256. `exp` is required; `nbf` is enforced if
 * present.
 *
 * @category models
 */
export interface BearerRules {
  /** The file of the shared secret: 32 bytes or more, without surrounding white space. */
  readonly secretFile: string
  /** The required `iss`. */
  readonly issuer?: string | undefined
  /** The required `aud`; the token may have others too. */
  readonly audience?: string | undefined
  /** The tolerance for `exp` and `nbf`, in seconds; 30 by default. */
  readonly maxClockSkewSeconds?: number | undefined
}

/**
 * The request is not authenticated. The message is for logs; the peer gets only a status.
 *
 * @category errors
 */
export class Unauthorized extends Data.TaggedError("Unauthorized")<{ readonly message: string }> {}

/**
 * A secret cannot be used; the message is a sentence for the operator.
 *
 * @category errors
 */
export class SecretError extends Data.TaggedError("SecretError")<{ readonly message: string }> {}

/**
 * Authenticates requests.
 *
 * @category models
 */
export interface Shape {
  /**
   * Whether no token is required. Then only the server's own user may connect from this machine without one, and the
   * subject of such a connection is that user.
   */
  readonly isOpen?: true
  /** Succeeds with the subject if a request with this `Authorization` header may connect. */
  readonly authenticate: (authorization: string | undefined) => Effect.Effect<Grant.Grant, Unauthorized>
}

const everybody: Shape = { isOpen: true, authenticate: () => Effect.succeed(Grant.anonymous) }

/**
 * Decides who may connect. The default accepts everybody.
 *
 * @category tags
 */
export class Authenticator extends Context.Reference<Authenticator>()("exec-server/Authenticator", {
  defaultValue: (): Shape => everybody
}) {}

/**
 * Accepts every client.
 *
 * @category layers
 */
export const layerNone: Layer.Layer<never> = Layer.succeed(Authenticator, everybody)

/** The shortest secret, in bytes. Shorter ones would be weaker than HMAC-SHA256. */
const minSecretBytes = 32

const defaultMaxClockSkewSeconds = 30

/** The token of a `Bearer` header, undefined without one. The scheme is case-insensitive. */
const tokenOf = (authorization: string | undefined): string | undefined => {
  if (authorization === undefined) return undefined
  const [scheme = "", ...rest] = authorization.split(" ")
  const token = rest.join(" ").trim()
  return scheme.toLowerCase() === "bearer" && token !== "" ? token : undefined
}

const bearerOf = (authorization: string | undefined): Effect.Effect<string, Unauthorized> =>
  Effect.suspend(() => {
    const token = tokenOf(authorization)
    return token === undefined ? new Unauthorized({ message: "there is no bearer token" }) : Effect.succeed(token)
  })

/** Hashes before comparing, so that the time of a comparison reveals nothing about the token. */
const digest = (token: Buffer): Buffer => createHash("sha256").update(token).digest()

const readText = (file: string): Effect.Effect<Buffer, SecretError> =>
  Effect.suspend(() => {
    const path = resolve(file)
    const fail = (why: string) => new SecretError({ message: `failed to read websocket auth secret ${path}: ${why}` })
    return Effect.try({
      try: () => readFileSync(path),
      catch: (error) => fail(OsError.describe(error))
    }).pipe(
      Effect.filterOrFail(isUtf8, () => fail("it is not valid UTF-8")),
      Effect.map((content) => Buffer.from(content.toString().trim())),
      Effect.filterOrFail(
        ({ length }) => length > 0,
        () => fail("it is empty")
      ),
      Effect.zipLeft(PrivateFile.warn("the secret in", path))
    )
  })

/** The hex digits of a token's digest that identify it. */
const shownDigits = 12

const shown = (hash: Buffer): string => hash.toString("hex").slice(0, shownDigits)

/**
 * Accepts clients that present the token. All of them are one subject, named after the first digits of the token's
 * SHA-256.
 *
 * @category layers
 */
export const layerCapabilityToken = (source: TokenSource): Layer.Layer<never, SecretError> =>
  Layer.effect(
    Authenticator,
    Effect.gen(function* () {
      const expected = "file" in source ? digest(yield* readText(source.file)) : Buffer.from(source.sha256, "hex")
      if (expected.length !== 32)
        return yield* new SecretError({ message: "the token's SHA-256 must be 64 hex digits" })
      const grant: Grant.Grant = { id: `token:${shown(expected)}` }
      return {
        authenticate: (authorization) =>
          Effect.flatMap(bearerOf(authorization), (token) =>
            // Each character of a header stands for one byte.
            timingSafeEqual(digest(Buffer.from(token, "latin1")), expected)
              ? Effect.succeed(grant)
              : new Unauthorized({ message: "the token is wrong" })
          )
      } satisfies Shape
    })
  )

/** A claim, encoded as in a URL. A claim that is not text gets the prefix `$`; the rules require none. */
const encodeClaim = (claim: unknown): string =>
  typeof claim === "string" ? encodeURIComponent(claim) : `$${encodeURIComponent(JSON.stringify(claim))}`

/**
 * The subject of a token: `jwt:SUB@ISS`, encoded so that different pairs differ. Tokens of one issuer without `sub` are
 * one subject.
 */
const subjectOf = ({ sub = "", iss = "" }: { readonly sub?: unknown; readonly iss?: unknown }): string =>
  `jwt:${encodeClaim(sub)}@${encodeClaim(iss)}`

/** When a token's connections end, in milliseconds. JSON has numbers such as 1e400, which is infinity: it is no time. */
const endOf = ({ exp }: { readonly exp?: unknown }, skewSeconds: number): number => {
  const endMs = typeof exp === "number" ? (exp + skewSeconds) * 1000 : Number.NaN
  if (endMs <= maxDateMs) return endMs
  throw new Error(`the token's exp is ${String(exp)}; it must be a time in seconds`)
}

/** The permissions in the claims `role`, `session` and `processId`. Invalid claims are errors. */
const rightsOf = (claims: { readonly [name: string]: unknown }): Pick<Grant.Grant, "role" | "scope"> => {
  const { role = "client", session, processId } = claims
  const known = Grant.roles.find((known) => known === role)
  if (known === undefined) throw new Error(`the token's role is none of ${Grant.roles.join(", ")}`)
  if (session === undefined && processId === undefined) return { role: known }
  if (known === "client") throw new Error("`session` and `processId` go with the role viewer or operator")
  const isText = (claim: unknown) => claim === undefined || typeof claim === "string"
  if (typeof session !== "string" || !isText(processId)) {
    throw new Error("`session` must be the handle of a session, and `processId` one of its processes")
  }
  return { role: known, scope: { session, processId: processId as string | undefined } }
}

/**
 * Whoever has a token that was signed with the shared secret, and that keeps the rules, may connect, until the token
 * expires. The subject is the token's `sub` of its `iss`. Its `role` is `client`, `viewer` or `operator`; `session` (a
 * handle) and `processId` limit a viewer or an operator to them.
 *
 * @category layers
 */
export const layerSignedBearerToken = (rules: BearerRules): Layer.Layer<never, SecretError> =>
  Layer.effect(
    Authenticator,
    Effect.gen(function* () {
      const secret = yield* readText(rules.secretFile)
      if (secret.length < minSecretBytes) {
        return yield* new SecretError({
          message: `signed websocket bearer secret ${resolve(rules.secretFile)} must be at least ${minSecretBytes} bytes`
        })
      }
      // Loaded on first use, for other servers' sake.
      const { jwtVerify } = yield* Effect.promise(() => import("jose/jwt/verify"))
      const clockTolerance = rules.maxClockSkewSeconds ?? defaultMaxClockSkewSeconds
      const options = {
        algorithms: ["HS256"],
        requiredClaims: ["exp"],
        clockTolerance,
        ...(rules.issuer === undefined ? {} : { issuer: rules.issuer }),
        ...(rules.audience === undefined ? {} : { audience: rules.audience })
      }
      const verify = (token: string, now: number) =>
        Effect.tryPromise({
          try: async (): Promise<Grant.Grant> => {
            const { payload } = await jwtVerify(token, secret, { ...options, currentDate: new Date(now) })
            return { id: subjectOf(payload), ...rightsOf(payload), expiresAtMs: endOf(payload, clockTolerance) }
          },
          catch: (error) => new Unauthorized({ message: error instanceof Error ? error.message : String(error) })
        })
      return {
        authenticate: (authorization) =>
          Effect.flatMap(bearerOf(authorization), (token) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => verify(token, now))
          )
      } satisfies Shape
    })
  )

/**
 * Files with the tokens of operators and viewers.
 *
 * @category models
 */
export interface RoleTokens {
  readonly operatorFile?: string | undefined
  readonly viewerFile?: string | undefined
}

/**
 * Accepts the tokens of operators and viewers, and leaves other clients to the provided authenticator. If that one
 * requires no token, a client may have none, but not a wrong one.
 *
 * @category layers
 */
export const layerRoleTokens = ({ operatorFile, viewerFile }: RoleTokens): Layer.Layer<never, SecretError> =>
  Layer.effect(
    Authenticator,
    Effect.gen(function* () {
      const others = yield* Authenticator
      const grants: Array<{ readonly hash: Buffer; readonly grant: Grant.Grant }> = []
      for (const [role, file] of [
        ["operator", operatorFile],
        ["viewer", viewerFile]
      ] as const) {
        if (file === undefined) continue
        const hash = digest(yield* readText(file))
        if (grants.some((other) => other.hash.equals(hash))) {
          return yield* new SecretError({
            message: "operators and viewers have the same token; a viewer must have its own"
          })
        }
        grants.push({ hash, grant: { id: `${role}:${shown(hash)}`, role } })
      }
      if (grants.length === 0) return others
      const find = (token: string) => {
        const hash = digest(Buffer.from(token, "latin1"))
        return grants.find((known) => timingSafeEqual(known.hash, hash))?.grant
      }
      return {
        ...others,
        authenticate: (authorization) =>
          Effect.flatMap(Effect.option(bearerOf(authorization)), (token) => {
            const grant = Option.getOrUndefined(Option.flatMapNullable(token, find))
            if (grant !== undefined) return Effect.succeed(grant)
            if (others.isOpen === true && Option.isSome(token))
              return new Unauthorized({ message: "the token is wrong" })
            return others.authenticate(authorization)
          })
      } satisfies Shape
    })
  )

/**
 * Accepts the token that was made for operators of `ConsolePage`, if there is one, and leaves other clients to the
 * provided authenticator.
 *
 * @category layers
 */
export const layerConsole: Layer.Layer<never> = Layer.effect(
  Authenticator,
  Effect.gen(function* () {
    const others = yield* Authenticator
    const hash = (yield* ConsolePage)?.operatorSha256
    if (hash === undefined) return others
    const grant: Grant.Grant = { id: `operator:${shown(hash)}`, role: "operator" }
    return {
      ...others,
      authenticate: (authorization) => {
        const token = tokenOf(authorization)
        return token !== undefined && timingSafeEqual(digest(Buffer.from(token, "latin1")), hash)
          ? Effect.succeed(grant)
          : others.authenticate(authorization)
      }
    } satisfies Shape
  })
)

/**
 * Accepts the tokens of `Shares`, if there are any, and leaves other clients to the provided authenticator.
 *
 * @category layers
 */
export const layerShares: Layer.Layer<never> = Layer.effect(
  Authenticator,
  Effect.gen(function* () {
    const others = yield* Authenticator
    const shares = yield* Shares
    if (shares === undefined) return others
    return {
      ...others,
      authenticate: (authorization) => {
        const token = tokenOf(authorization)
        const grant = token === undefined ? undefined : shares.find(token)
        if (grant === "unknown") return new Unauthorized({ message: "the share is over" })
        return grant === undefined ? others.authenticate(authorization) : Effect.succeed(grant)
      }
    } satisfies Shape
  })
)
