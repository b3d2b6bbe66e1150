/**
 * Who may use the server: clients with its token, or, if it has none, programs of its own user on this machine. Web pages
 * may not.
 *
 * @since 0.1.0
 */
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { FailedLogins } from "../transport/FailedLogins.js"
import * as LocalClient from "../transport/LocalClient.js"
import { type Failure, fail } from "./Failure.js"

/** What a signature permits. */
type Operation = "read" | "write"

const digest = (text: string) => createHash("sha256").update(text, "latin1").digest()

const tokensOf = ({ headers }: IncomingMessage): ReadonlyArray<string> => {
  const [, bearer] = /^bearer +(\S+)$/i.exec(headers.authorization ?? "") ?? []
  return [headers["x-access-token"], headers["x-api-key"], bearer].filter((token) => typeof token === "string")
}

/** The access to a server with this token; undefined if it needs none. */
export class Access {
  private readonly failedLogins = new FailedLogins()
  private readonly expected: Buffer | undefined

  constructor(readonly token: string | undefined) {
    this.expected = token === undefined ? undefined : digest(token)
  }

  /** Refuses web pages, and without a token other users. Everybody else may know that the server is there. */
  readonly local = (request: IncomingMessage): Effect.Effect<void, Failure> =>
    Effect.suspend(() => {
      if (request.headers.origin !== undefined) return fail("permission_denied", "web pages may not use this server")
      if (this.expected !== undefined) return Effect.void
      const why = LocalClient.hostRefusal(request)
      if (why !== undefined) return fail("permission_denied", why)
      const isOwn = LocalClient.refusal(request, SocketOwner.of(request.socket)) === undefined
      return isOwn
        ? Effect.void
        : fail("permission_denied", "this server is for programs of its own user; start it with --access-token-file")
    })

  /** Whether a request has the token, or needs none. */
  readonly authenticate = (request: IncomingMessage): Effect.Effect<void, Failure> =>
    Effect.suspend(() => {
      const { expected } = this
      if (expected === undefined) return Effect.void
      const given = tokensOf(request)
      if (given.some((token) => timingSafeEqual(digest(token), expected))) return Effect.void
      if (given.length > 0) return this.refuse("the access token is wrong")
      return fail("unauthenticated", "give the access token of the server: in X-Access-Token, X-API-KEY or as a bearer")
    })

  /** Whether a request for a file has the token, or a signature that was made with it. */
  readonly authenticateFile = (
    request: IncomingMessage,
    query: URLSearchParams,
    operation: Operation
  ): Effect.Effect<void, Failure> => {
    const signature = query.get("signature")
    if (this.token === undefined || signature === null || tokensOf(request).length > 0) {
      return this.authenticate(request)
    }
    const expiration = query.get("signature_expiration")
    const parts = [query.get("path") ?? "", operation, query.get("username") ?? "", this.token]
    const text = [...parts, ...(expiration === null ? [] : [expiration])].join(":")
    const expected = `v1_${createHash("sha256").update(text).digest("base64").replace(/=+$/, "")}`
    if (!timingSafeEqual(digest(expected), digest(signature))) return this.refuse("the signature is wrong")
    return Effect.flatMap(Clock.currentTimeMillis, (now) =>
      expiration !== null && !(Number(expiration) * 1000 >= now)
        ? fail("unauthenticated", "the signature is already expired")
        : Effect.void
    )
  }

  /** Guesses wait. */
  private refuse(message: string): Effect.Effect<never, Failure> {
    return Effect.flatMap(this.failedLogins.wait, (isTurn) =>
      isTurn ? fail("unauthenticated", message) : fail("resource_exhausted", "too many wrong tokens; try again later")
    )
  }
}
