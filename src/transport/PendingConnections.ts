/**
 * Connections that have not yet been accepted: bounded in number and in time, so that whoever only knocks cannot keep
 * out those who are let in.
 *
 * @since 0.1.0
 */
import type { Server, Socket } from "node:net"
import { timerMs } from "./TransportLimits.js"

/** How many there are at a time. Honest ones stay for milliseconds: when there are more, the oldest has to go. */
export const maxPending = 256

/** Those of one server. */
export interface PendingConnections {
  /** The connection that this socket belongs to was accepted: whoever accepted it sees to its end. */
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
