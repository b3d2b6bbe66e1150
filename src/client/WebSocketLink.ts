/**
 * Messages over WebSocket: one a text frame.
 *
 * @since 0.1.0
 */

import type { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { ConnectFailed, ConnectTimeout } from "./ClientError.js"
import type { Link, OpenLink } from "./TextChannel.js"

/** How to reach a server. */
export interface Options {
  /** `ws://`, `wss://`, or `unix:///PATH` of a socket on this machine. */
  readonly url: string
  /** Of the upgrade request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** A bearer token, shown to the server before it upgrades. */
  readonly token?: string | undefined
  /** How long the connection may take to come about; 10 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** The longest message that is read, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** How often a silent server is asked whether it is there; 15 seconds. It may be silent for twice that. */
  readonly heartbeat?: Duration.DurationInput | undefined
}

/** What a Node.js timer can wait, in milliseconds; longer ones fire at once. */
const maxTimerMs = 2147483647

/** How long the server may take to answer a close frame, in milliseconds. */
const closeMs = 1000

const message = (error: unknown) => {
  // What happens on a socket of several addresses has no message, but one for each.
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error ? first.message : String(first)
}

/** The address as the WebSocket library takes it. */
const dialled = (url: string): string =>
  url.startsWith("unix:///") ? `ws+unix://${url.slice("unix://".length)}:/` : url

/** The headers of a request that shows a token, if there is one. */
export const headersOf = ({ headers, token }: Pick<Options, "headers" | "token">): Readonly<Record<string, string>> =>
  token === undefined ? { ...headers } : { ...headers, authorization: `Bearer ${token}` }

/** Connects; interruption leaves nothing behind. `onOpen` is told of the socket at once, for whoever is to close it. */
const connect = (options: Options, onOpen: (ws: WebSocket) => void): Effect.Effect<WebSocket, ConnectFailed> =>
  Effect.async((resume) => {
    const { url, maxMessageBytes = 268435456 } = options
    const fail = (reason: string, status?: number) =>
      resume(Effect.fail(new ConnectFailed({ url, reason, ...(status === undefined ? {} : { status }) })))
    let ws: WebSocket
    try {
      // Compression costs more than it saves between machines that are near each other, and some servers refuse it.
      ws = new WebSocket(dialled(url), {
        perMessageDeflate: false,
        maxPayload: maxMessageBytes,
        headers: headersOf(options)
      })
    } catch (error) {
      return fail(message(error))
    }
    // Small messages must not wait for the acknowledgement of earlier ones.
    ws.once("upgrade", ({ socket }: IncomingMessage) => socket.setNoDelay(true))
    ws.once("unexpected-response", (request, { statusCode }: IncomingMessage) => {
      request.destroy()
      fail(`the server answered ${statusCode} instead of an upgrade`, statusCode)
    })
    ws.on("error", (error) => fail(message(error)))
    ws.once("open", () => {
      // What comes before anybody listens stays with the socket.
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

/** Says goodbye, and waits, bounded, for the answer. */
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

/** Links to one address. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onBinary, onMalformed, onEnd }) => {
    const { url, connectTimeout = "10 seconds", heartbeat = "15 seconds" } = options
    const connectTimeoutMs = Duration.toMillis(connectTimeout)
    const heartbeatMs = Math.min(Duration.toMillis(heartbeat), maxTimerMs)
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        let opened: WebSocket | undefined
        // Before the dial: it may succeed and be interrupted in the same turn, and then nobody gets what it gives.
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
          // What is not read cannot be heard.
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
          // What ws cannot read is no WebSocket, or none that a server may send; other errors are the network's.
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
