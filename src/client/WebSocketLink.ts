/**
 * Messages over WebSocket: one per text frame.
 *
 * @since 0.1.0
 */

import type { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { ConnectFailed, ConnectTimeout } from "./ClientError.js"
import type { Link, OpenLink } from "./TextChannel.js"

/** How to connect to a server. */
export interface Options {
  /** `ws://`, `wss://`, or `unix:///PATH` for a unix socket. */
  readonly url: string
  /** Further headers of the upgrade request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** The bearer token of the upgrade request. */
  readonly token?: string | undefined
  /** The deadline for connecting, in milliseconds; 10 s. */
  readonly connectTimeoutMs?: number | undefined
  /** The longest message from the server, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** The ping interval for a silent server, in milliseconds; 15 s. After twice that the connection counts as lost. */
  readonly heartbeatMs?: number | undefined
}

/** The deadline for the server's close frame, in milliseconds. */
const closeMs = 1000

const message = (error: unknown) => {
  // The error for a host with several addresses has no message itself, but one for each address.
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error ? first.message : String(first)
}

/** The address in the form of the WebSocket library. */
const dialled = (url: string): string =>
  url.startsWith("unix:///") ? `ws+unix://${url.slice("unix://".length)}:/` : url

/** The headers of the upgrade request, with the token if there is one. */
export const headersOf = ({ headers, token }: Pick<Options, "headers" | "token">): Readonly<Record<string, string>> =>
  token === undefined ? { ...headers } : { ...headers, authorization: `Bearer ${token}` }

/** Connects; an interruption leaves no socket behind. `onOpen` gets the socket at once, so that it can be closed. */
const connect = (options: Options, onOpen: (ws: WebSocket) => void): Effect.Effect<WebSocket, ConnectFailed> =>
  Effect.async((resume) => {
    const { url, maxMessageBytes = 268435456 } = options
    const fail = (reason: string, status?: number) =>
      resume(Effect.fail(new ConnectFailed({ url, reason, ...(status === undefined ? {} : { status }) })))
    let ws: WebSocket
    try {
      // Compression costs more than it saves on a fast network, and some servers refuse it.
      ws = new WebSocket(dialled(url), {
        perMessageDeflate: false,
        maxPayload: maxMessageBytes,
        headers: headersOf(options)
      })
    } catch (error) {
      return fail(message(error))
    }
    // Disable Nagle's algorithm: small messages must not wait for the ACK of earlier ones.
    ws.once("upgrade", ({ socket }: IncomingMessage) => socket.setNoDelay(true))
    ws.once("unexpected-response", (request, { statusCode }: IncomingMessage) => {
      request.destroy()
      fail(`the server answered ${statusCode} instead of an upgrade`, statusCode)
    })
    ws.on("error", (error) => fail(message(error)))
    ws.once("open", () => {
      // Paused until there is a listener, so that no message is lost.
      ws.pause()
      onOpen(ws)
      resume(Effect.succeed(ws))
    })
    return Effect.sync(() => ws.terminate())
  })

const closed = (ws: WebSocket) =>
  Effect.async<void>((resume) => {
    if (ws.readyState === WebSocket.CLOSED) resume(Effect.void)
    else ws.once("close", () => resume(Effect.void))
  })

/** Sends a close frame and waits for the server's, with a deadline. */
const close = (ws: WebSocket) =>
  Effect.suspend(() => {
    ws.resume()
    ws.close(1000)
    return closed(ws).pipe(
      Effect.interruptible,
      Effect.timeoutOption(closeMs),
      Effect.ensuring(Effect.sync(() => ws.terminate()))
    )
  })

const describe = (code: number, reason: Buffer): string | undefined =>
  code === 1000 ? undefined : `closed with code ${code}${reason.length === 0 ? "" : `: ${reason}`}`

/** Opens links to one address. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onBinary, onMalformed, onEnd }) => {
    const { url, connectTimeoutMs = 10000, heartbeatMs = 15000 } = options
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        let opened: WebSocket | undefined
        // Registered before connecting: it may succeed and be interrupted in the same turn, and its result be lost.
        yield* Effect.addFinalizer(() => (opened === undefined ? Effect.void : close(opened)))
        const connected = connect(options, (ws) => {
          opened = ws
        })
        const ws = yield* restore(
          Effect.timeoutFail(connected, {
            duration: connectTimeoutMs,
            onTimeout: () => new ConnectTimeout({ url, afterMs: connectTimeoutMs })
          })
        )
        let failure: string | undefined
        let heard = true
        let held = false
        const beat = setInterval(() => {
          // While paused, pongs are not read either.
          if (!heard && !held) {
            failure = `nothing was heard of the server for ${2 * heartbeatMs} ms`
            return ws.terminate()
          }
          heard = false
          ws.ping()
        }, heartbeatMs)
        ws.on("message", (data: Buffer, isBinary: boolean) => {
          heard = true
          if (isBinary) onBinary(data)
          else onMessage(data.toString())
        })
        for (const event of ["ping", "pong"]) {
          ws.on(event, () => {
            heard = true
          })
        }
        ws.on("error", (error: NodeJS.ErrnoException) => {
          failure = message(error)
          // Errors of ws (WS_ERR_*) are protocol violations; others are network errors.
          if (error.code?.startsWith("WS_ERR_") === true) onMalformed(failure)
        })
        ws.once("close", (code, reason) => {
          clearInterval(beat)
          onEnd(failure ?? describe(code, reason))
        })
        ws.resume()
        const link: Link = {
          send: (text) => {
            if (ws.readyState === WebSocket.OPEN) ws.send(text)
          },
          close: () => ws.close(1000),
          pause: () => {
            held = true
            ws.pause()
          },
          resume: () => {
            held = false
            heard = true
            ws.resume()
          }
        }
        return link
      })
    )
  }
