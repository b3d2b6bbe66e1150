/**
 * A listening HTTP server: on a port, with or without TLS, or on a unix socket.
 *
 * @since 0.1.0
 */
import { createServer, type RequestListener, type Server } from "node:http"
import { createServer as createSecureServer } from "node:https"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { timerMs } from "../internal/Timer.js"
import * as PendingConnections from "./PendingConnections.js"
import * as Tls from "./Tls.js"
import { ListenError } from "./Transport.js"
import * as UnixSocket from "./UnixSocket.js"

/**
 * Where to listen.
 *
 * @category models
 */
export type Address = {
  /** A socket that listens there already, and stays when the server ends; without it, one is made. */
  readonly fd?: number
} & (
  | {
      /** An IP address, never a name. */
      readonly host: string
      /** 0 for any free port. */
      readonly port: number
    }
  | {
      /** The absolute path of a socket that only this user can connect to; of one that was passed, what it has. */
      readonly path: string
    }
)

/**
 * Options of a listener.
 *
 * @category models
 */
export interface Options {
  readonly tls?: Tls.Files | undefined
  /** How long a connection may take to be accepted, in milliseconds. */
  readonly acceptWithinMs: number
  readonly onRequest: RequestListener
}

/**
 * A listening server.
 *
 * @category models
 */
export interface Listener {
  readonly server: Server
  /** The address that clients connect to. */
  readonly url: string
  readonly pending: PendingConnections.PendingConnections
}

const describe = (where: string, error: NodeJS.ErrnoException): string => {
  switch (error.code) {
    case "EADDRINUSE":
      return `cannot listen on ${where}: the port is in use; choose another one, or 0 for any free one`
    case "EADDRNOTAVAIL":
      return `cannot listen on ${where}: this machine has no such address`
    case "EACCES":
      return `cannot listen on ${where}: permission denied; ports below 1024 need privileges`
    default:
      return `cannot listen on ${where}: ${error.message}`
  }
}

const urlOf = (scheme: string, host: string, port: number) =>
  `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`

const listenOnPort = (server: Server, scheme: string, host: string, port: number) =>
  Effect.async<string, ListenError>((resume) => {
    const where = urlOf(scheme, host, port)
    server.once("error", (error) => resume(new ListenError({ message: describe(where, error) })))
    server.listen(port, host, () => {
      const bound = server.address() as AddressInfo
      resume(Effect.succeed(urlOf(scheme, bound.address, bound.port)))
    })
  })

const listenOnPassed = (server: Server, url: string, fd: number) =>
  Effect.async<void, ListenError>((resume) => {
    server.once("error", (error) => resume(new ListenError({ message: describe(url, error) })))
    server.listen({ fd }, () => resume(Effect.void))
  })

/**
 * Listens until the scope closes.
 *
 * @category running
 */
export const listen = (address: Address, options: Options): Effect.Effect<Listener, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    const { tls, acceptWithinMs, onRequest } = options
    const pair = tls === undefined ? undefined : yield* Tls.load(tls)
    const server = yield* Effect.acquireRelease(
      Effect.sync((): Server => {
        // `acceptWithinMs` bounds the whole time until a connection is accepted, so Node's own timeouts are off.
        const timeouts = { headersTimeout: 0, requestTimeout: 0 }
        return pair === undefined
          ? createServer(timeouts, onRequest)
          : createSecureServer({ ...timeouts, ...pair, handshakeTimeout: timerMs(acceptWithinMs) }, onRequest)
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    // While the server listens, an error of accept concerns only that connection.
    server.on("error", () => {})
    const pending = PendingConnections.make(server, acceptWithinMs)
    const scheme = pair === undefined ? "ws" : "wss"
    if (address.fd !== undefined) {
      const url = "path" in address ? `unix://${address.path}` : urlOf(scheme, address.host, address.port)
      yield* listenOnPassed(server, url, address.fd)
      return { server, url, pending }
    }
    if ("path" in address) {
      yield* UnixSocket.listen(server, address.path)
      return { server, url: `unix://${address.path}`, pending }
    }
    const url = yield* listenOnPort(server, scheme, address.host, address.port)
    return { server, url, pending }
  })
