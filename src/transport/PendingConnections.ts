/**
 * Bounds the number and the time of connections that were not accepted yet, so that idle ones cannot keep clients out.
 *
 * @since 0.1.0
 */
import type { Server, Socket } from "node:net"
import { timerMs } from "../internal/Timer.js"

/**
 * The most pending connections. A real client is accepted within milliseconds; beyond the limit the oldest connection
 * is closed.
 */
export const maxPending = 256

/** The pending connections of one server. */
export interface PendingConnections {
  /** Tells that the connection of this socket was accepted: it is no longer tracked. */
  readonly accepted: (socket: Socket) => void
  /** How many there are. */
  readonly count: () => number
}

/** Tracks the connections of a server. Each must be accepted within `deadlineMs` milliseconds. */
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
    count: () => pending.size,
    accepted: (socket) => {
      if (pending.has(socket)) return forget(socket)
      // With TLS, requests arrive on a separate socket, and Node.js does not tell which one carries it.
      for (const carrier of pending.keys()) {
        if (carrier.remotePort === socket.remotePort && carrier.remoteAddress === socket.remoteAddress) {
          return forget(carrier)
        }
      }
    }
  }
}
