/**
 * Peers on WebSocket: one message a text frame; a binary frame of UTF-8 is taken as well.
 *
 * @since 0.1.0
 */
import { isUtf8 } from "node:buffer"
import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import { WebSocket, WebSocketServer } from "ws"
import type { Peer } from "../session/Peer.js"
import { Transport } from "./Transport.js"
import { TransportLimits } from "./TransportLimits.js"

/** Where to listen. */
export interface Address {
  /** An IP address, never a name. */
  readonly host: string
  /** 0 for any free one. */
  readonly port: number
}

/** The server could not listen; the message is a sentence for its operator. */
export class ListenError extends Data.TaggedError("ListenError")<{ readonly message: string }> {}

/** How often the server pings, in milliseconds: proxies close connections that stay silent for a minute. */
const pingMs = 30000

/** How long a peer may take to answer a close frame, in milliseconds. */
const closeMs = 1000

/** The longest reason that a close frame holds, in bytes. */
const maxReasonBytes = 123

/** Answers a client that closes without a code with 1000 instead of without one. */
class ServerSocket extends WebSocket {
  override close(code = 1000, reason?: string | Buffer): void {
    super.close(code, reason)
  }
}

/** As much of a reason as a close frame holds. */
const fitReason = (reason: string): string => {
  let fit = reason.slice(0, maxReasonBytes)
  while (Buffer.byteLength(fit) > maxReasonBytes) fit = fit.slice(0, -1)
  return fit
}

const makePeer = (ws: WebSocket, socket: Socket): Peer => {
  const remote = `${socket.remoteAddress}:${socket.remotePort}`
  // Small messages must not wait for the acknowledgement of earlier ones.
  socket.setNoDelay(true)
  // What is sent in one turn of the event loop leaves in one system call; nothing waits longer than that turn.
  let corked = false
  const uncork = () => {
    corked = false
    socket.uncork()
  }
  const cork = () => {
    if (corked) return
    corked = true
    socket.cork()
    process.nextTick(uncork)
  }
  const pings = setInterval(() => ws.ping(), pingMs)
  return {
    malformedPrefix: `failed to parse websocket JSON-RPC message from exec-server websocket ${remote}`,
    resumable: true,
    listen: ({ onMessage, onMalformed, onDrain, onEnd }) => {
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary && !isUtf8(data)) onMalformed("the binary frame is not valid UTF-8")
        else onMessage(data.toString())
      })
      socket.on("drain", onDrain)
      // A peer that has said its last word and does not read ours either would never be gone.
      socket.once("end", () => setTimeout(() => ws.terminate(), closeMs).unref())
      // A protocol error: ws answers with the right close frame itself, and "close" follows.
      ws.on("error", () => {})
      ws.once("close", () => {
        clearInterval(pings)
        onEnd()
      })
    },
    send: (text) => {
      if (ws.readyState !== WebSocket.OPEN) return
      cork()
      ws.send(text)
    },
    // A frame a part: clients may limit frames more than messages.
    sendPart: (part, isLast) => {
      if (ws.readyState !== WebSocket.OPEN) return
      cork()
      ws.send(part, { binary: false, fin: isLast })
    },
    buffered: () => socket.writableLength,
    pause: () => ws.pause(),
    resume: () => ws.resume(),
    close: ({ code, reason }) => {
      if (ws.readyState !== WebSocket.OPEN) return
      ws.close(code, fitReason(reason))
      // A paused peer could not be heard answering.
      ws.resume()
      setTimeout(() => ws.terminate(), closeMs).unref()
    }
  }
}

const refuse = (socket: Duplex, status: number) => {
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`
  socket.end(head, () => socket.destroy())
}

const pathOf = (request: IncomingMessage) => (request.url ?? "").split("?", 1)[0]

/** What a request is refused with before anything else is looked at: no web page may reach the server. */
const fault = (request: IncomingMessage): number | undefined => (request.headers.origin === undefined ? undefined : 403)

const answer = (request: IncomingMessage, response: ServerResponse) => {
  const refused = fault(request)
  const path = pathOf(request)
  if (refused !== undefined) response.writeHead(refused).end()
  else if (path === "/readyz") response.writeHead(request.method === "GET" ? 200 : 405).end()
  else if (path === "/" && request.method === "GET") {
    response.writeHead(400, { "content-type": "text/plain" }).end("Connection header did not include 'upgrade'")
  } else response.writeHead(404).end()
}

const describe = ({ host, port }: Address, error: NodeJS.ErrnoException): string => {
  const where = `ws://${host.includes(":") ? `[${host}]` : host}:${port}`
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

const listen = (address: Address) =>
  Effect.acquireRelease(
    Effect.async<ReturnType<typeof createServer>, ListenError>((resume) => {
      const server = createServer(answer)
      server.once("error", (error) => resume(new ListenError({ message: describe(address, error) })))
      server.listen(address.port, address.host, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )

/** Peers on WebSocket. The port is bound while the Layer is alive. */
export const layer = (address: Address): Layer.Layer<Transport, ListenError> =>
  Layer.scoped(
    Transport,
    Effect.gen(function* () {
      const { maxMessageBytes } = yield* TransportLimits
      const server = yield* listen(address)
      const upgrades = new WebSocketServer({
        noServer: true,
        perMessageDeflate: false,
        maxPayload: maxMessageBytes,
        WebSocket: ServerSocket
      })
      const bound = server.address() as AddressInfo
      const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address

      const run = <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) =>
        Effect.scoped(
          Effect.gen(function* () {
            const fork = yield* FiberSet.makeRuntime<R>()
            const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
              // From here on nobody else listens, and a reset would end the server.
              socket.on("error", () => socket.destroy())
              const refused = fault(request) ?? (pathOf(request) === "/" ? undefined : 404)
              if (refused !== undefined) return refuse(socket, refused)
              upgrades.handleUpgrade(request, socket, head, (ws) => {
                // Once the peer was told, it may still answer; whoever waits for the end of the server waits for that.
                const gone = Effect.async<void>((resume) => {
                  if (ws.readyState === WebSocket.CLOSED) resume(Effect.void)
                  else ws.once("close", () => resume(Effect.void))
                })
                fork(Effect.ensuring(serve(makePeer(ws, request.socket)), gone))
              })
            }
            server.on("upgrade", onUpgrade)
            yield* Effect.addFinalizer(() => Effect.sync(() => server.off("upgrade", onUpgrade)))
            return yield* Effect.never
          })
        )
      return { address: `ws://${host}:${bound.port}`, run }
    })
  )
