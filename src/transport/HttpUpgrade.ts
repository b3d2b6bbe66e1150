/**
 * Serves peers on a route of an application's own HTTP server, with the same port, router and middleware.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import type { RequestError } from "@effect/platform/HttpServerError"
import { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Socket from "@effect/platform/Socket"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { WebSocket } from "ws"
import * as LateLimits from "../internal/LateLimits.js"
import { timerMs } from "../internal/Timer.js"
import * as Connection from "../session/Connection.js"
import * as Grant from "../session/Grant.js"
import type { Handlers } from "../session/Handlers.js"
import type { Peer } from "../session/Peer.js"
import { SessionLimits } from "../session/SessionLimits.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { TransportLimits } from "./TransportLimits.js"
import * as WebSocketPeer from "./WebSocketPeer.js"

/** A peer that also receives messages from before `listen`. */
const withEarly = (peer: Peer, takeEarly: () => ReadonlyArray<string | Uint8Array>): Peer => ({
  ...peer,
  listen: (events) => {
    for (const data of takeEarly()) {
      if (typeof data === "string") events.onMessage(data)
      else if (isUtf8(data)) events.onMessage(Buffer.from(data).toString())
      else events.onMalformed("the binary frame is not valid UTF-8")
    }
    peer.listen(events)
    peer.resume()
  }
})

/**
 * A route handler that upgrades a request to a WebSocket and serves the peer on it. Needs `NodeHttpServer`. The
 * application's middleware decides who may connect, from which origin, and under which subject (`Grant.CurrentGrant`).
 * The HTTP server sets the longest message.
 *
 * @category running
 * @example
 * const routes = HttpRouter.empty.pipe(HttpRouter.get("/exec", HttpUpgrade.serve))
 */
export const serve: Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  RequestError,
  HttpServerRequest | SessionRegistry | Handlers
> = Effect.gen(function* () {
  const request = yield* HttpServerRequest
  yield* LateLimits.refuse("sessions", yield* SessionRegistry)
  const { socket } = NodeHttpServerRequest.toIncomingMessage(request)
  const { pingIntervalMs } = yield* TransportLimits
  const { handshakeTimeoutMs } = yield* SessionLimits
  const grant = yield* Grant.CurrentGrant
  const upgraded = yield* request.upgrade
  const opened = yield* Deferred.make<WebSocket>()
  const early: Array<string | Uint8Array> = []
  let isHeard = false

  // The underlying socket is known only with the first message.
  const onMessage = (data: string | Uint8Array) => {
    if (isHeard) return
    early.push(data)
    return Effect.flatMap(Effect.serviceOption(Socket.WebSocket), (found) => {
      if (found._tag === "None") return Effect.dieMessage("HttpUpgrade needs the sockets of NodeHttpServer")
      // `NodeHttpServer` makes its WebSockets with this library.
      const ws = found.value as unknown as WebSocket
      ws.pause()
      return Deferred.succeed(opened, ws)
    })
  }
  const takeEarly = () => {
    isHeard = true
    return early.splice(0)
  }
  const served = Effect.gen(function* () {
    const ws = yield* Effect.timeoutOption(Deferred.await(opened), handshakeTimeoutMs)
    if (ws._tag === "None") return
    const name = `${socket.remoteAddress}:${socket.remotePort}`
    const owner = SocketOwner.of(socket)
    const peer = WebSocketPeer.make(ws.value, socket, {
      name,
      owner,
      grant: grant ?? Grant.ofOwner(owner),
      pingIntervalMs: timerMs(pingIntervalMs)
    })
    yield* Connection.serve(withEarly(peer, takeEarly))
  })
  // The peer is told of the end of the socket too, and then ends in its own order.
  const heard = Effect.zipRight(Effect.ignore(upgraded.runRaw(onMessage)), Deferred.isDone(opened)).pipe(
    Effect.flatMap((isOpen) => (isOpen ? Effect.never : Effect.void))
  )
  yield* Effect.raceFirst(served, heard)
  return HttpServerResponse.empty()
})
