/**
 * Parses `--listen`, for the server and for the rendezvous.
 *
 * @since 0.1.0
 */
import { isIP } from "node:net"
import { isAbsolute } from "node:path"
import * as Either from "effect/Either"
import { isLoopback } from "../internal/Loopback.js"
import type { Address } from "./Listener.js"

/** An address to listen on, and whether only this machine can reach it. */
export interface Place {
  readonly address: Address
  readonly isLocal: boolean
}

/** The original's error for an invalid WebSocket address. */
export const invalidWebSocket = (listen: string): string =>
  `invalid websocket --listen URL \`${listen}\`; expected \`ws://IP:PORT\``

/** The address to listen on; undefined for stdio. Failures have the original's texts where it has one. */
export const parse = (listen: string, hasCertificate: boolean): Either.Either<Place | undefined, string> => {
  if (listen === "stdio" || listen === "stdio://") return Either.right(undefined)
  if (listen.startsWith("unix://")) {
    const path = listen.slice("unix://".length)
    return isAbsolute(path) && !path.endsWith("/") && !path.includes("\0")
      ? Either.right({ address: { path }, isLocal: true })
      : Either.left(`invalid unix --listen URL \`${listen}\`; expected \`unix:///PATH\``)
  }
  if (!/^wss?:\/\//.test(listen)) {
    return Either.left(
      `unsupported --listen URL \`${listen}\`; expected \`ws://IP:PORT\` or \`stdio\`, or \`unix:///PATH\``
    )
  }
  const [, bracketed, plain, digits] = /^wss?:\/\/(?:\[([^\]]*)\]|([^:[\]/]*)):(\d{1,5})$/.exec(listen) ?? []
  const host = bracketed ?? plain ?? ""
  const port = Number(digits)
  if (isIP(host) !== (bracketed === undefined ? 4 : 6) || port > 65535) return Either.left(invalidWebSocket(listen))
  if (listen.startsWith("wss:") && !hasCertificate) {
    return Either.left(`--listen ${listen} needs a certificate: give --tls-cert and --tls-key`)
  }
  return Either.right({ address: { host, port }, isLocal: isLoopback(host) })
}
