/**
 * A peer on an open WebSocket: one message per text frame. A binary frame with UTF-8 is accepted too.
 *
 * @since 0.1.0
 */
import { type Buffer, isUtf8 } from "node:buffer"
import type { Socket } from "node:net"
import { WebSocket } from "ws"
import { WebSocketChannel } from "../internal/WebSocketChannel.js"
import type { Grant } from "../session/Grant.js"
import type { Peer } from "../session/Peer.js"
import type { SocketOwner } from "../spawn/SocketOwner.js"
import { SmallMessages } from "./SmallMessages.js"
import { UnfinishedMessages } from "./UnfinishedMessages.js"

/** The pings that a peer may leave unanswered before it is considered gone. */
const maxUnansweredPings = 3

/** How long a silent peer may take to answer a ping when another connection wants its session, in milliseconds. */
const probeMs = 2000

/** Answers a close frame without a code by 1000 instead of by one without a code. */
export class ServerSocket extends WebSocket {
  /** Writes what must precede the close frame, which ws may send on its own. */
  beforeClose = () => {}

  override close(code = 1000, reason?: string | Buffer): void {
    this.beforeClose()
    super.close(code, reason)
  }
}

/** Sends UTF-8 bytes as a text message. */
const utf8 = { binary: false } as const

/** The bytes of a client's ping or pong besides its payload, RFC 6455 section 5.2: two of header, four of mask. */
const controlFrameBytes = 6

/** Counts the bytes of the incomplete message, and cuts the connection off if all connections exceed the limit. */
const weigh = (ws: WebSocket, socket: Socket, channel: WebSocketChannel, all: UnfinishedMessages) => {
  const unfinished = all.make((reason) => {
    channel.close(1008, reason)
    // The bytes are held until the connection is gone, so do not wait for the answer to the close frame.
    channel.pause()
    setImmediate(() => ws.terminate())
  })
  // Counts the bytes before ws reads them: the end of a message comes after its bytes.
  socket.prependListener("data", ({ length }: Buffer) => unfinished.grow(length))
  ws.prependListener("message", unfinished.finish)
  for (const event of ["ping", "pong"]) {
    ws.on(event, ({ length }: Buffer) => unfinished.shrink(length + controlFrameBytes))
  }
  channel.onceClosed(unfinished.finish)
}

/** The properties of a peer that its socket does not tell. */
export interface Options {
  /** Its name, for logs and errors. */
  readonly name: string
  /** The subject of the connection. */
  readonly grant: Grant
  /** The process at the other end, if it is local. */
  readonly owner?: SocketOwner | undefined
  readonly pingIntervalMs: number
  /** The incomplete messages of all connections; unlimited if absent. */
  readonly unfinished?: UnfinishedMessages | undefined
}

/** A peer on a WebSocket and the connection below it. */
export const make = (ws: WebSocket, socket: Socket, options: Options): Peer => {
  const { name, grant, owner, pingIntervalMs, unfinished = new UnfinishedMessages(Number.POSITIVE_INFINITY) } = options
  const channel = new WebSocketChannel(ws, socket, {
    intervalMs: pingIntervalMs,
    maxUnanswered: maxUnansweredPings,
    countsWhilePaused: true
  })
  weigh(ws, socket, channel, unfinished)
  const small = new SmallMessages(socket)
  // Only this class reports when ws sends a close frame on its own.
  const gathers = ws instanceof ServerSocket
  if (gathers) ws.beforeClose = () => small.flush()
  return {
    name,
    grant,
    owner,
    malformedPrefix: `failed to parse websocket JSON-RPC message from exec-server websocket ${name}`,
    resumable: true,
    listen: ({ onMessage, onMalformed, onDrain, onEnd }) => {
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary && !isUtf8(data)) onMalformed("the binary frame is not valid UTF-8")
        else onMessage(data.toString())
      })
      socket.on("drain", onDrain)
      channel.onceClosed(onEnd)
    },
    send: (text) => {
      if (ws.readyState !== WebSocket.OPEN) return
      if (gathers && small.add(text)) return
      small.flush()
      channel.send(text)
    },
    // One frame per part: clients may limit frames more than messages.
    sendPart: (part, isLast) => {
      small.flush()
      channel.send(part, { binary: false, fin: isLast })
    },
    sendUtf8: (bytes, onSent) => {
      small.flush()
      channel.send(bytes, utf8, onSent)
    },
    sendBinary: (bytes, onSent) => {
      small.flush()
      channel.send(bytes, undefined, onSent)
    },
    buffered: () => channel.buffered + small.waiting,
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    probe: (onAnswer) => (channel.isSilent ? channel.probe(probeMs, onAnswer) : onAnswer(true)),
    close: ({ code, reason }) => channel.close(code, reason)
  }
}
