/**
 * A listening HTTP server: on a port, with or without TLS, or on a unix socket.
 *
 * @since 0.1.0
 */
import { createServer, type RequestListener, type Server } from "node:http"
import { createServer as createSecureServer } from "node:https"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Handover } from "../internal/Handover.js"
import { HeldServer } from "../internal/HeldServer.js"
import { timerMs } from "../internal/Timer.js"
import * as CarriedListener from "./CarriedListener.js"
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
  /** Begins to accept, if that waits for the caller: on a socket that the version before has left. */
  readonly open: Effect.Effect<void, ListenError>
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

/** Listens on a socket that listens already. */
const listenOn = (server: Server, fd: number, url: string) =>
  Effect.async<void, ListenError>((resume) => {
    server.once("error", (error) => resume(new ListenError({ message: describe(url, error) })))
    server.listen({ fd }, () => resume(Effect.void))
  })

/**
 * Listens until the scope closes. A version that replaces another one takes over its socket, if it is to listen at the
 * same address.
 *
 * @category running
 */
export const listen = (address: Address, options: Options): Effect.Effect<Listener, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    const { tls, acceptWithinMs, onRequest } = options
    const handover = yield* Handover
    const pair = tls === undefined ? undefined : yield* Tls.load(tls)
    const { server, held } = yield* Effect.acquireRelease(
      Effect.sync(() => {
        // `acceptWithinMs` bounds the whole time until a connection is accepted, so Node's own timeouts are off.
        const timeouts = { headersTimeout: 0, requestTimeout: 0 }
        const server: Server =
          pair === undefined
            ? createServer(timeouts, onRequest)
            : createSecureServer({ ...timeouts, ...pair, handshakeTimeout: timerMs(acceptWithinMs) }, onRequest)
        return { server, held: new HeldServer(server) }
      }),
      ({ server, held }) =>
        Effect.sync(() => {
          held.close()
          server.close()
          server.closeAllConnections()
        })
    )
    // While the server listens, an error of accept concerns only that connection.
    server.on("error", () => {})
    const pending = PendingConnections.make(server, acceptWithinMs)
    const asked = JSON.stringify(address)
    const contribute = (url: string, file: UnixSocket.Identity | undefined) =>
      handover.contribute({
        name: CarriedListener.part,
        freeze: (writer) =>
          Schema.encodeSync(CarriedListener.schema())({
            asked,
            url,
            fd: writer.descriptor(held.fd),
            ...(file && { file })
          }),
        hold: (duplicate) => held.hold(duplicate),
        release: () => held.release(),
        arriving: () => pending.count()
      })

    const before = handover.adopted(CarriedListener.part)
    const found = before === undefined ? undefined : Schema.decodeUnknownSync(CarriedListener.schema())(before.state)
    if (found?.asked === asked) {
      const { url, fd, file } = found
      if (file !== undefined && "path" in address) yield* UnixSocket.adopt(address.path, file)
      contribute(url, file)
      return { server, url, pending, open: listenOn(server, fd, url) }
    }
    const scheme = pair === undefined ? "ws" : "wss"
    if (address.fd !== undefined) {
      const url = "path" in address ? `unix://${address.path}` : urlOf(scheme, address.host, address.port)
      yield* listenOn(server, address.fd, url)
      contribute(url, undefined)
      return { server, url, pending, open: Effect.void }
    }
    if ("path" in address) {
      const file = yield* UnixSocket.listen(server, address.path)
      const url = `unix://${address.path}`
      contribute(url, file)
      return { server, url, pending, open: Effect.void }
    }
    const url = yield* listenOnPort(server, scheme, address.host, address.port)
    contribute(url, undefined)
    return { server, url, pending, open: Effect.void }
  })
