/**
 * A WebSocket that carries relay frames, one a binary message, whoever dialled it.
 *
 * @since 0.1.0
 */
import type { Socket } from "node:net"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { isLoopback } from "../internal/Loopback.js"
import { WebSocketChannel } from "../internal/WebSocketChannel.js"
import { redactUrl } from "../protocol/Redact.js"
import * as RelayFrame from "./RelayFrame.js"

/** What a socket reports. Every call comes from the event loop. */
export interface SocketEvents {
  readonly onFrame: (bytes: Buffer) => void
  /** A text message, which is no frame. */
  readonly onText: () => void
  /** Everything sent has left this process. */
  readonly onDrain: () => void
  /** The socket is gone. Once; nothing follows. */
  readonly onEnd: (code: number, reason: string) => void
}

/** One socket. Sending to one that is gone does nothing. */
export interface RelaySocket {
  /** Starts the reports; nothing is read before. */
  readonly listen: (events: SocketEvents) => void
  /** Sends one frame, whose bytes are not changed until `onSent`; it need not come if the socket is gone. */
  readonly send: (bytes: Uint8Array, onSent?: () => void) => void
  /** Bytes sent that have not left this process. */
  readonly buffered: () => number
  /** Stops, or goes on with, reading. A few messages may still come after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
  /** Pings the other end, and says within 3 seconds whether it is still there. */
  readonly probe: (onAnswer: (isAlive: boolean) => void) => void
  /** Starts the close handshake. `onEnd` follows. */
  readonly close: (code: number, reason: string) => void
}

/** No socket could be opened; the message names the URL without what may be secret in it. */
export class DialError extends Data.TaggedError("DialError")<{
  readonly message: string
  /** Of the answer, where there was one. */
  readonly status: number | undefined
}> {}

/** The high-water mark of unsent bytes: above it, senders that can wait do so. */
export const highWaterBytes = 1048576

/**
 * A peer that answers none of three pings is given up. Not while it is not read: it is paused because another socket is
 * full, or by the client that it belongs to.
 */
const heartbeat = { intervalMs: 30000, maxUnanswered: 3, countsWhilePaused: false } as const

/** How long a peer may take to answer a probe, in milliseconds. */
const probeMs = 3000

/** How long dialling may take, in milliseconds. */
const dialMs = 10000

/** The longest frame that may come: a message of this length in one piece, and what surrounds it. */
export const maxPayload = (maxMessageBytes: number): number => maxMessageBytes + RelayFrame.maxOverheadBytes

/** Frames over an open WebSocket and the connection below it. */
export const make = (ws: WebSocket, socket: Socket): RelaySocket => {
  const channel = new WebSocketChannel(ws, socket, heartbeat)
  channel.pause()
  return {
    listen: ({ onFrame, onText, onDrain, onEnd }) => {
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary) onFrame(data)
        else onText()
      })
      socket.on("drain", onDrain)
      channel.onceClosed(onEnd)
      channel.resume()
    },
    send: (bytes, onSent) => channel.send(bytes, undefined, onSent),
    buffered: () => channel.buffered,
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    probe: (onAnswer) => channel.probe(probeMs, onAnswer),
    close: (code, reason) => channel.close(code, reason)
  }
}

/**
 * Masks keep what a client sends from looking like HTTP to a proxy that reads along. Where there can be none they are
 * zeros, which costs nothing to apply and to take off again.
 */
const masks = (url: URL): { readonly generateMask?: (mask: Buffer) => void } =>
  url.protocol === "wss:" || isLoopback(url.hostname) ? { generateMask: (mask) => mask.fill(0) } : {}

/**
 * Opens a socket, which is then its caller's to close; interruption before leaves nothing behind. Redirects are not
 * followed: the URL may carry a credential.
 */
export const dial = (
  url: string,
  options: { readonly maxMessageBytes: number; readonly headers?: Readonly<Record<string, string>> }
): Effect.Effect<RelaySocket, DialError> =>
  Effect.async<RelaySocket, DialError>((resume) => {
    const fail = (why: string, status?: number) =>
      resume(
        new DialError({ message: `failed to connect to exec-server websocket \`${redactUrl(url)}\`: ${why}`, status })
      )
    if (!/^wss?:$/.test(URL.canParse(url) ? new URL(url).protocol : "")) return fail("the URL is not ws:// or wss://")
    const ws = new WebSocket(url, {
      perMessageDeflate: false,
      maxPayload: maxPayload(options.maxMessageBytes),
      handshakeTimeout: dialMs,
      ...masks(new URL(url)),
      ...(options.headers === undefined ? {} : { headers: options.headers })
    })
    ws.once("unexpected-response", (_, response) => {
      const status = response.statusCode ?? 0
      ws.terminate()
      fail(`HTTP error: ${status} ${response.statusMessage}`, status)
    })
    ws.on("error", (error) => fail(error.message))
    let socket: Socket | undefined
    ws.once("upgrade", (response) => {
      socket = response.socket
    })
    ws.once("open", () => {
      if (socket !== undefined) resume(Effect.succeed(make(ws, socket)))
    })
    return Effect.sync(() => ws.terminate())
  })
