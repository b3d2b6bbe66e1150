/**
 * A peer on an open WebSocket: one message a text frame; a binary frame of UTF-8 is taken as well.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import type { Socket } from "node:net"
import { WebSocket } from "ws"
import type { Peer } from "../session/Peer.js"
import { SmallMessages } from "./SmallMessages.js"

/** How long a peer may take to answer a close frame, in milliseconds. */
const closeMs = 1000

/** The longest reason that a close frame holds, in bytes. */
const maxReasonBytes = 123

/** Pings that a peer may leave unanswered before it is taken for gone. */
const maxUnansweredPings = 3

/** Answers a client that closes without a code with 1000 instead of without one. */
export class ServerSocket extends WebSocket {
  /** What must be written before the close frame, which ws may send by itself. */
  beforeClose = () => {}

  override close(code = 1000, reason?: string | Buffer): void {
    this.beforeClose()
    super.close(code, reason)
  }
}

/** As much of a reason as a close frame holds. */
const fitReason = (reason: string): string => {
  let fit = reason.slice(0, maxReasonBytes)
  while (Buffer.byteLength(fit) > maxReasonBytes) fit = fit.slice(0, -1)
  return fit
}

/**
 * Pings a peer, and cuts it off when it has answered none of several pings. Slow is not gone: whatever comes from the
 * peer is a sign of life, and so is its taking of what waits to be sent, behind which a ping waits as well.
 */
const keepAlive = (ws: WebSocket, socket: Socket, intervalMs: number) => {
  const look = () => ({
    received: socket.bytesRead,
    waiting: socket.writableLength > 0,
    taken: socket.bytesWritten - socket.writableLength
  })
  let seen = look()
  let unanswered = 0
  const timer = setInterval(() => {
    const now = look()
    const lives = now.received !== seen.received || (seen.waiting && now.taken !== seen.taken)
    // While the server itself does not read, nothing can come.
    if (lives || (ws.isPaused && !now.waiting)) unanswered = 0
    seen = now
    if (unanswered === maxUnansweredPings) return ws.terminate()
    unanswered++
    ws.ping()
  }, intervalMs)
  ws.once("close", () => clearInterval(timer))
}

/** A peer; `name` says who it is, for the messages that it gets about what it sent. */
export const make = (ws: WebSocket, socket: Socket, name: string, pingIntervalMs: number): Peer => {
  // Small messages must not wait for the acknowledgement of earlier ones.
  socket.setNoDelay(true)
  // What is sent in one turn of the event loop leaves in one system call; nothing waits longer than that turn.
  let corked = false
  const small = new SmallMessages(socket)
  // Only there it is known when ws sends a close frame by itself.
  const gathers = ws instanceof ServerSocket
  if (gathers) ws.beforeClose = () => small.flush()
  const uncork = () => {
    corked = false
    socket.uncork()
  }
  const cork = () => {
    small.flush()
    if (corked) return
    corked = true
    socket.cork()
    process.nextTick(uncork)
  }
  // A protocol error: ws answers with the right close frame itself, and "close" follows.
  ws.on("error", () => {})
  keepAlive(ws, socket, pingIntervalMs)
  return {
    name,
    malformedPrefix: `failed to parse websocket JSON-RPC message from exec-server websocket ${name}`,
    resumable: true,
    listen: ({ onMessage, onMalformed, onDrain, onEnd }) => {
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary && !isUtf8(data)) onMalformed("the binary frame is not valid UTF-8")
        else onMessage(data.toString())
      })
      socket.on("drain", onDrain)
      // A peer that has said its last word and does not read ours either would never be gone.
      socket.once("end", () => setTimeout(() => ws.terminate(), closeMs).unref())
      ws.once("close", onEnd)
    },
    send: (text) => {
      if (ws.readyState !== WebSocket.OPEN) return
      if (gathers && small.add(text)) return
      cork()
      ws.send(text)
    },
    // A frame a part: clients may limit frames more than messages.
    sendPart: (part, isLast) => {
      if (ws.readyState !== WebSocket.OPEN) return
      cork()
      ws.send(part, { binary: false, fin: isLast })
    },
    sendUtf8: (bytes, onSent) => {
      if (ws.readyState !== WebSocket.OPEN) return
      cork()
      ws.send(bytes, { binary: false }, onSent)
    },
    sendBinary: (bytes, onSent) => {
      if (ws.readyState !== WebSocket.OPEN) return
      cork()
      ws.send(bytes, onSent)
    },
    buffered: () => socket.writableLength + small.waiting,
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
