/**
 * A WebSocket of either side that carries relay frames, one per binary message.
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

/** The callbacks of a socket, called from the event loop. */
export interface SocketEvents {
  readonly onFrame: (bytes: Buffer) => void
  /** A text message, which cannot be a frame. */
  readonly onText: () => void
  /** Everything sent has left this process. */
  readonly onDrain: () => void
  /** The socket is gone. Called once, as the last callback. */
  readonly onEnd: (code: number, reason: string) => void
}

/** A socket. Sending to a closed one does nothing. */
export interface RelaySocket {
  /** Starts the callbacks; nothing is read before. */
  readonly listen: (events: SocketEvents) => void
  /** Sends one frame. Its bytes must not change until `onSent`, which may not be called if the socket is gone. */
  readonly send: (bytes: Uint8Array, onSent?: () => void) => void
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
  /** Pauses and resumes reading. A few messages may still arrive after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
  /** Pings the peer, and reports within 3 seconds whether it is alive. */
  readonly probe: (onAnswer: (isAlive: boolean) => void) => void
  /** Starts the close handshake. `onEnd` follows. */
  readonly close: (code: number, reason: string) => void
}

/** No socket could be opened. The message names the URL without secrets. */
export class DialError extends Data.TaggedError("DialError")<{
  readonly message: string
  /** The HTTP status of the response, if there was one. */
  readonly status: number | undefined
}> {}

/** The high-water mark of unsent bytes. Above it, senders pause. */
export const highWaterBytes = 1048576

/**
 * A peer that answers none of three pings is considered dead; not while it is paused, because another socket is full or
 * because its client paused it.
 */
const heartbeat = { intervalMs: 30000, maxUnanswered: 3, countsWhilePaused: false } as const

/** The deadline for the answer to a probe, in milliseconds. */
const probeMs = 3000

/** The deadline for connecting, in milliseconds. */
const dialMs = 10000

/** The longest incoming frame: a message of this length in one piece, and its envelope. */
export const maxPayload = (maxMessageBytes: number): number => maxMessageBytes + RelayFrame.maxOverheadBytes

/** Frames over an open WebSocket and its underlying connection. */
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
 * Masking keeps client data from looking like HTTP to intercepting proxies. Where there can be no such proxy, masks are
 * zeros, which cost nothing to apply and remove.
 */
const masks = (url: URL): { readonly generateMask?: (mask: Buffer) => void } =>
  url.protocol !== "ws:" || isLoopback(url.hostname) ? { generateMask: (mask) => mask.fill(0) } : {}

/** An open WebSocket, which is paused, and the connection below it. */
export interface Opened {
  readonly ws: WebSocket
  readonly socket: Socket
}

/** How a WebSocket is opened. */
export interface OpenOptions {
  /** The longest message, in bytes. */
  readonly maxPayload: number
  readonly headers?: Readonly<Record<string, string>>
  /** Accepts `unix:///PATH`. Not for addresses from a registry, which must not choose among the sockets here. */
  readonly allowsUnix?: boolean
}

/** The address in the form of the WebSocket library; undefined if it is none. */
const dialled = (url: string, allowsUnix: boolean): string | undefined => {
  if (allowsUnix && url.startsWith("unix:///")) return `ws+unix://${url.slice("unix://".length)}:/`
  return URL.canParse(url) && /^wss?:$/.test(new URL(url).protocol) ? url : undefined
}

/**
 * Opens a WebSocket. The caller closes it; an interruption before that leaves nothing behind. Redirects are not
 * followed: the URL may contain a credential.
 */
export const open = (
  url: string,
  { maxPayload, headers = {}, allowsUnix = false }: OpenOptions
): Effect.Effect<Opened, DialError> =>
  Effect.async<Opened, DialError>((resume) => {
    const fail = (why: string, status?: number) =>
      resume(
        new DialError({ message: `failed to connect to exec-server websocket \`${redactUrl(url)}\`: ${why}`, status })
      )
    const address = dialled(url, allowsUnix)
    if (address === undefined) return fail("the URL is not ws:// or wss://")
    const ws = new WebSocket(address, {
      perMessageDeflate: false,
      maxPayload,
      handshakeTimeout: dialMs,
      ...masks(new URL(address)),
      headers
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
      if (socket === undefined) return
      ws.pause()
      resume(Effect.succeed({ ws, socket }))
    })
    return Effect.sync(() => ws.terminate())
  })

/** Opens a WebSocket of frames, as `open` does. */
export const dial = (
  url: string,
  {
    maxMessageBytes,
    headers = {}
  }: { readonly maxMessageBytes: number; readonly headers?: Readonly<Record<string, string>> }
): Effect.Effect<RelaySocket, DialError> =>
  Effect.map(open(url, { maxPayload: maxPayload(maxMessageBytes), headers }), ({ ws, socket }) => make(ws, socket))
