/**
 * Which local programs may use a server without authentication: those of the server's own user. A loopback address
 * keeps out neither other users nor web pages whose domain resolves to it.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"
import { isLoopback, withoutBrackets } from "../internal/Loopback.js"
import { clip } from "../protocol/Schemas.js"
import type { SocketOwner } from "../spawn/SocketOwner.js"

const advice = "pass --allow-local-users, or have clients authenticate with --ws-auth"

/** The name in a Host header, without the port. */
export const nameOf = (host: string): string => withoutBrackets(host.replace(/:\d*$/, ""))

/** The name in the Host header of a request, for messages. */
export const shownHost = ({ headers }: IncomingMessage): string => JSON.stringify(clip(nameOf(headers.host ?? "")))

/** Why a client may be another user's. */
const strangerOf = (owner: SocketOwner | undefined): string | undefined => {
  const own = process.geteuid?.()
  // Systems that do not report users cannot tell them apart.
  if (own === undefined || process.platform !== "linux") return undefined
  if (owner === undefined) return undefined
  if (owner._tag === "Unknown") return `the kernel does not tell whose connection it is (${owner.reason}); ${advice}`
  return owner.uid === own
    ? undefined
    : `it belongs to user ${owner.uid}, but this server runs as user ${own}; ${advice}`
}

/**
 * Whether a Host header is acceptable. A web page that was rebound to this machine sends its own domain, which contains
 * a dot.
 */
const isHarmless = (name: string) => isIP(name) !== 0 || (name !== "" && !name.includes("."))

/**
 * Why a local request is refused for its Host header; undefined if it is not. The check is against DNS rebinding: a browser
 * sends the domain of the page, and the owner of a domain can make it resolve to this machine.
 */
export const hostRefusal = (request: IncomingMessage): string | undefined => {
  const { remoteAddress } = request.socket
  const name = nameOf(request.headers.host ?? "")
  return remoteAddress !== undefined && isLoopback(remoteAddress) && !isHarmless(name)
    ? `its Host header says ${shownHost(request)}, which is neither an address nor a name of this machine, such as localhost`
    : undefined
}

/** Why a request with this owner is refused; undefined if it is allowed. */
export const refusal = (request: IncomingMessage, owner: SocketOwner | undefined): string | undefined =>
  hostRefusal(request) ?? strangerOf(owner)
