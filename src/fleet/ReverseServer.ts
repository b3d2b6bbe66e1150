/**
 * A WebSocket server that listens nowhere: it is handed connections that this process has made itself.
 *
 * @since 0.1.0
 */
import { createServer, type IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { type WebSocket, WebSocketServer } from "ws"
import { ServerSocket } from "../transport/WebSocketPeer.js"

/** A server without an address. */
export interface ReverseServer {
  /** Takes over a connection whose other end speaks as a WebSocket client. */
  readonly take: (connection: Duplex, onOpen: (ws: WebSocket, request: IncomingMessage) => void) => void
}

/** How long the other end may take to ask for a WebSocket, in milliseconds. */
const handshakeMs = 10_000

/** A server for messages of up to `maxMessageBytes` bytes. */
export const make = (maxMessageBytes: number): ReverseServer => {
  const opens = new WeakMap<Duplex, (ws: WebSocket, request: IncomingMessage) => void>()
  const upgrades = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: maxMessageBytes,
    WebSocket: ServerSocket
  })
  // It never listens, and so never looks for connections that are overdue: `take` does.
  const server = createServer({ headersTimeout: 0, requestTimeout: 0 }, (_, response) => response.writeHead(400).end())
  server.on("upgrade", (request, socket, head) => {
    const onOpen = opens.get(socket)
    if (onOpen === undefined) socket.destroy()
    else upgrades.handleUpgrade(request, socket, head, (ws) => onOpen(ws, request))
  })
  return {
    take: (connection, onOpen) => {
      const overdue = setTimeout(() => connection.destroy(), handshakeMs)
      connection.once("close", () => clearTimeout(overdue))
      connection.on("error", () => connection.destroy())
      opens.set(connection, (ws, request) => {
        clearTimeout(overdue)
        onOpen(ws, request)
      })
      server.emit("connection", connection)
      // Whoever read its head has paused it, and may have put something back.
      connection.resume()
    }
  }
}
