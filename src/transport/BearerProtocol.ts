/**
 * Bearer tokens in a WebSocket subprotocol, for browsers, which cannot send an `Authorization` header: the client offers
 * `bearer.` followed by the token in base64url.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { IncomingHttpHeaders } from "node:http"

const prefix = "bearer."

/** The `Authorization` header of a request, or its equivalent from the subprotocols. */
export const authorizationOf = (headers: IncomingHttpHeaders): string | undefined => {
  if (headers.authorization !== undefined) return headers.authorization
  const offered = headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim())
  const token = offered?.find((name) => name.startsWith(prefix))?.slice(prefix.length)
  // Like a header, one byte per character.
  return token === undefined ? undefined : `Bearer ${Buffer.from(token, "base64url").toString("latin1")}`
}

/** Selects the first subprotocol that is not a token. */
export const select = (offered: ReadonlySet<string>): string | false =>
  Array.from(offered).find((name) => !name.startsWith(prefix)) ?? false
