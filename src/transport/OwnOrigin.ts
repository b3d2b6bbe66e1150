/**
 * Recognizes the web console among web pages: the pages that this server has sent.
 *
 * A page's origin equals the `Host` of its requests also if the owner of a domain made it resolve to this machine (DNS
 * rebinding). So the host must be one that nobody else can own.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import { isLoopback } from "../internal/Loopback.js"
import * as LocalClient from "./LocalClient.js"

/** The origin of a server's own pages. */
export interface OwnOrigin {
  /** Whether the `Host` header names this server: an address that it listens on, `localhost`, or the public host. */
  readonly isHost: (request: IncomingMessage) => boolean
  /** Whether the `Host` header is the public host, which requests have that came through a proxy. */
  readonly isPublicHost: (request: IncomingMessage) => boolean
  /** Whether the `Origin` header is this server's own. */
  readonly isOrigin: (request: IncomingMessage) => boolean
}

/** What the address of the other end is called in a URL: IPv4 as such, also on a socket of IPv6. */
const plain = (address: string) => address.replace(/^::ffff:/, "")

/** The own origin of a server, with the address that browsers know if it has another one. */
export const make = (isSecure: boolean, publicUrl: URL | undefined): OwnOrigin => {
  const scheme = isSecure ? "https" : "http"
  const hostOf = ({ headers }: IncomingMessage) => LocalClient.nameOf(headers.host ?? "").toLowerCase()
  const publicHost = publicUrl === undefined ? undefined : LocalClient.nameOf(publicUrl.host)

  const isListenedOn = (request: IncomingMessage) => {
    const host = hostOf(request)
    const { localAddress } = request.socket
    // Browsers get to a unix socket, or through an ssh tunnel, by a port of their own machine.
    return isLoopback(host) || (localAddress !== undefined && host === plain(localAddress))
  }
  const isPublicHost = (request: IncomingMessage) => publicHost !== undefined && hostOf(request) === publicHost

  return {
    isHost: (request) => isPublicHost(request) || isListenedOn(request),
    isPublicHost,
    isOrigin: (request) => {
      const { origin = "", host = "" } = request.headers
      const lower = origin.toLowerCase()
      return (
        lower !== "" &&
        (lower === publicUrl?.origin || (lower === `${scheme}://${host.toLowerCase()}` && isListenedOn(request)))
      )
    }
  }
}
