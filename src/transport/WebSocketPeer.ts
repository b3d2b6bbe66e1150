/**
 * A peer on an open WebSocket: one message a text frame; a binary frame of UTF-8 is taken as well.
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

/** Pings that a peer may leave unanswered before it is taken for gone. */
const maxUnansweredPings = 3

/** How long a peer that was silent may take to answer a ping once its client wants its session back, in milliseconds. */
const probeMs = 2000

/** Answers a client that closes without a code with 1000 instead of without one. */
export class ServerSocket extends WebSocket {
  /** What must be written before the close frame, which ws may send by itself. */
  beforeClose = () => {}

  override close(code = 1000, reason?: string | Buffer): void {
    this.beforeClose()
    super.close(code, reason)
  }
}

/** A text message whose UTF-8 is at hand. */
const utf8 = { binary: false } as const

/** The bytes of a client's ping or pong besides its payload, RFC 6455 section 5.2: two of the head, four of the mask. */
const controlFrameBytes = 6

/** Weighs what has arrived of a message, and cuts the connection off if all connections have too much of theirs. */
const weigh = (ws: WebSocket, socket: Socket, channel: WebSocketChannel, all: UnfinishedMessages) => {
  const unfinished = all.make((reason) => {
    channel.close(1008, reason)
    // What has arrived is held until the connection is gone: the answer to the close frame is not waited for.
    channel.pause()
    setImmediate(() => ws.terminate())
  })
  // Before ws reads the same bytes: the end of a message comes after they were counted.
  socket.prependListener("data", ({ length }: Buffer) => unfinished.grow(length))
  ws.prependListener("message", unfinished.finish)
  for (const event of ["ping", "pong"]) {
    ws.on(event, ({ length }: Buffer) => unfinished.shrink(length + controlFrameBytes))
  }
  channel.onceClosed(unfinished.finish)
}

/** What is known of a peer beside its socket. */
export interface Options {
  /** Where it is, for the messages that it gets about what it sent. */
  readonly name: string
  /** Whose connection it is. */
  readonly grant: Grant
  /** The owner of the other end, where that is a process of this machine. */
  readonly owner?: SocketOwner | undefined
  readonly pingIntervalMs: number
  /** The messages of all connections that have not arrived in full; without it they have no limit. */
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
  // Only there it is known when ws sends a close frame by itself.
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
    // A frame a part: clients may limit frames more than messages.
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
