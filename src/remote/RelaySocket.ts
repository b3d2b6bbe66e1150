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
  /** Says goodbye. `onEnd` follows. */
  readonly close: (code: number, reason: string) => void
}

/** No socket could be opened; the message names the URL without what may be secret in it. */
export class DialError extends Data.TaggedError("DialError")<{
  readonly message: string
  /** Of the answer, where there was one. */
  readonly status: number | undefined
}> {}

/** More unsent bytes than this, and what can wait, waits. */
export const highWaterBytes = 1048576

/** How often a socket is pinged, in milliseconds; one that is silent for three times as long is given up. */
const pingMs = 30000

/** How long a peer may take to answer a close frame, in milliseconds. */
const closeMs = 1000

/** How long dialling may take, in milliseconds. */
const dialMs = 10000

/** The longest reason that a close frame holds, in bytes. */
const maxReasonBytes = 123

/** The longest frame that may come: a message of this length in one piece, and what surrounds it. */
export const maxPayload = (maxMessageBytes: number): number => maxMessageBytes + RelayFrame.maxOverheadBytes

/** Frames over an open WebSocket and the connection below it. */
export const make = (ws: WebSocket, socket: Socket): RelaySocket => {
  socket.setNoDelay(true)
  ws.pause()
  let heardAt = performance.now()
  const heard = () => {
    heardAt = performance.now()
  }
  let paused = false
  let lookedAt = heardAt
  const pings = setInterval(() => {
    const now = performance.now()
    // What is not read cannot be heard, nor can anything while this process is stopped.
    if (paused || now - lookedAt > 2 * pingMs) heard()
    lookedAt = now
    if (now - heardAt > 3 * pingMs) ws.terminate()
    else if (ws.readyState === WebSocket.OPEN) ws.ping()
  }, pingMs)
  // Also where nobody has listened.
  ws.once("close", () => clearInterval(pings))
  // What is sent in one turn of the event loop leaves in one system call; nothing waits longer than that turn.
  let corked = false
  const uncork = () => {
    corked = false
    socket.uncork()
  }
  // A protocol error: ws answers with the right close frame itself, and "close" follows.
  ws.on("error", () => {})
  ws.on("ping", heard)
  ws.on("pong", heard)
  return {
    listen: ({ onFrame, onText, onDrain, onEnd }) => {
      ws.on("message", (data: Buffer, isBinary: boolean) => {
        heard()
        if (isBinary) onFrame(data)
        else onText()
      })
      socket.on("drain", onDrain)
      // A peer that has said its last word and does not read ours either would never be gone.
      socket.once("end", () => setTimeout(() => ws.terminate(), closeMs).unref())
      let ended = false
      const end = (code: number, reason: string) => {
        if (ended) return
        ended = true
        onEnd(code, reason)
      }
      ws.once("close", (code, reason) => end(code, reason.toString()))
      if (ws.readyState === WebSocket.CLOSED) end(1006, "")
      ws.resume()
    },
    send: (bytes, onSent) => {
      if (ws.readyState !== WebSocket.OPEN) return
      if (!corked) {
        corked = true
        socket.cork()
        process.nextTick(uncork)
      }
      ws.send(bytes, onSent)
    },
    buffered: () => socket.writableLength,
    pause: () => {
      paused = true
      ws.pause()
    },
    resume: () => {
      if (!paused) return
      paused = false
      heard()
      ws.resume()
    },
    close: (code, reason) => {
      if (ws.readyState === WebSocket.CLOSED) return
      if (ws.readyState === WebSocket.OPEN) ws.close(code, Buffer.from(reason).subarray(0, maxReasonBytes).toString())
      // A peer that is not read could not be heard answering.
      ws.resume()
      setTimeout(() => ws.terminate(), closeMs).unref()
    }
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
