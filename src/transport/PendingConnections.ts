/**
 * Connections that have not been accepted yet. Their number and their time are bounded, so that idle ones cannot keep
 * clients out.
 *
 * @since 0.1.0
 */
import type { Server, Socket } from "node:net"
import { timerMs } from "./TransportLimits.js"

/** The most at a time. A real client is accepted within milliseconds; above the limit the oldest is closed. */
export const maxPending = 256

/** The pending connections of one server. */
export interface PendingConnections {
  /** The connection of this socket was accepted, and has another owner from now on. */
  readonly accepted: (socket: Socket) => void
}

/** Watches over the connections of a server, each of which may take this long, in milliseconds. */
export const make = (server: Server, deadlineMs: number): PendingConnections => {
  const pending = new Map<Socket, NodeJS.Timeout>()

  const forget = (socket: Socket) => {
    clearTimeout(pending.get(socket))
    pending.delete(socket)
  }

  server.on("connection", (socket: Socket) => {
    const [oldest] = pending.keys()
    if (pending.size >= maxPending && oldest !== undefined) {
      forget(oldest)
      oldest.destroy()
    }
    pending.set(
      socket,
      setTimeout(() => socket.destroy(), timerMs(deadlineMs))
    )
    socket.once("close", () => forget(socket))
  })

  return {
    accepted: (socket) => {
      if (pending.has(socket)) return forget(socket)
      // With TLS, requests come on a socket of their own, and Node.js does not say which one carries it.
      for (const carrier of pending.keys()) {
        if (carrier.remotePort === socket.remotePort && carrier.remoteAddress === socket.remoteAddress) {
          return forget(carrier)
        }
      }
    }
  }
}
