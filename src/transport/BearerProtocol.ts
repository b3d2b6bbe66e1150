/**
 * Bearer tokens for those that cannot send an `Authorization` header with a WebSocket, such as browsers: the token is one
 * of the subprotocols that the client offers, `bearer.` and its base64url.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { IncomingHttpHeaders } from "node:http"

const prefix = "bearer."

/** The `Authorization` of a request: that header, or else the token among the subprotocols. */
export const authorizationOf = (headers: IncomingHttpHeaders): string | undefined => {
  if (headers.authorization !== undefined) return headers.authorization
  const offered = headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim())
  const token = offered?.find((name) => name.startsWith(prefix))?.slice(prefix.length)
  // As a header has it: one byte a character.
  return token === undefined ? undefined : `Bearer ${Buffer.from(token, "base64url").toString("latin1")}`
}

/** The subprotocol that is answered: the first one that is no token. */
export const select = (offered: ReadonlySet<string>): string | false =>
  Array.from(offered).find((name) => !name.startsWith(prefix)) ?? false
