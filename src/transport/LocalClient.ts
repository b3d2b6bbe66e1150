/**
 * Which programs of this machine may use a server that asks for no token: those of its own user. The address is no
 * protection from other users, and none from the pages of a browser that a name leads here.
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
const nameOf = (host: string) => withoutBrackets(host.replace(/:\d*$/, ""))

/** The other end belongs to another user, or the kernel does not say whose it is. */
const strangerOf = (owner: SocketOwner | undefined): string | undefined => {
  const own = process.geteuid?.()
  // Where users are unknown to the system, there is nobody else.
  if (own === undefined || process.platform !== "linux") return undefined
  if (owner === undefined) return undefined
  if (owner._tag === "Unknown") return `the kernel does not tell whose connection it is (${owner.reason}); ${advice}`
  return owner.uid === own
    ? undefined
    : `it is one of user ${owner.uid}, and this server is that of user ${own}; ${advice}`
}

/** Whether a name may stand in a Host header: a web page's own domain, made to lead here, has a dot in it. */
const isHarmless = (name: string) => isIP(name) !== 0 || (name !== "" && !name.includes("."))

/**
 * Why a request is refused whose connection has this owner; undefined if it is allowed. A browser sends the name by
 * which it found the server, and whoever owns a domain can make it lead here (DNS rebinding).
 */
export const refusal = ({ socket, headers }: IncomingMessage, owner: SocketOwner | undefined): string | undefined => {
  const { remoteAddress } = socket
  const name = nameOf(headers.host ?? "")
  if (remoteAddress !== undefined && isLoopback(remoteAddress) && !isHarmless(name)) {
    return `its Host header says ${JSON.stringify(clip(name))}, which is neither an address nor a name of this machine, such as localhost`
  }
  return strangerOf(owner)
}
