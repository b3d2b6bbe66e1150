/**
 * Messages over WebSocket: one per text frame.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { isLoopback } from "../internal/Loopback.js"
import { timerMs } from "../internal/Timer.js"
import { WebSocketChannel } from "../internal/WebSocketChannel.js"
import { ConnectFailed, ConnectTimeout, InsecureSecret } from "./ClientError.js"
import type { Link, OpenLink } from "./TextChannel.js"

/** How to connect to a server. */
export interface Options {
  /** `ws://`, `wss://`, or `unix:///PATH` for a unix socket. */
  readonly url: string
  /** Further headers of the upgrade request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** The bearer token of the upgrade request. */
  readonly token?: string | undefined
  /** Allows a token or another secret to be sent over plain `ws://` to another machine; refused by default. */
  readonly insecure?: boolean | undefined
  /** The deadline for connecting; 10 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** The longest message from the server, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** The ping interval for a silent server; 15 seconds. After twice that the connection counts as lost. */
  readonly heartbeat?: Duration.DurationInput | undefined
}

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

/**
 * Fails, before anything is sent, if a secret would travel in plain text to another machine: a token, an authorization
 * header, or credentials in the address.
 */
export const checkSecret = (
  address: string,
  { headers = {}, token, insecure = false }: Pick<Options, "headers" | "token" | "insecure">
): Effect.Effect<void, InsecureSecret> => {
  if (insecure || !URL.canParse(address)) return Effect.void
  const { protocol, hostname, username, password, searchParams } = new URL(address)
  if ((protocol !== "ws:" && protocol !== "http:") || isLoopback(hostname)) return Effect.void
  const isSecret =
    token !== undefined ||
    Object.keys(headers).some((name) => /^(proxy-)?authorization$|^cookie$/i.test(name)) ||
    username + password !== "" ||
    searchParams.has("token")
  return isSecret ? new InsecureSecret({ url: address }) : Effect.void
}

/** Connects; an interruption leaves no socket behind. `onOpen` gets the socket at once, so that it can be closed. */
const connect = (
  options: Options,
  onOpen: (ws: WebSocket, socket: Socket) => WebSocketChannel
): Effect.Effect<WebSocketChannel, ConnectFailed> =>
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
    let socket: Socket | undefined
    ws.once("upgrade", (response: IncomingMessage) => {
      socket = response.socket
    })
    ws.once("unexpected-response", (request, { statusCode }: IncomingMessage) => {
      request.destroy()
      fail(`the server answered ${statusCode} instead of an upgrade`, statusCode)
    })
    ws.on("error", (error) => fail(message(error)))
    ws.once("open", () => {
      if (socket === undefined) return
      // Paused until there is a listener, so that no message is lost.
      ws.pause()
      resume(Effect.succeed(onOpen(ws, socket)))
    })
    return Effect.sync(() => ws.terminate())
  })

/** Sends a close frame and waits for the end of the connection; the channel has a deadline for it. */
const close = (channel: WebSocketChannel) =>
  Effect.async<void>((resume) => {
    channel.onceClosed(() => resume(Effect.void))
    channel.close(1000, "")
  })

const describe = (code: number, reason: string): string | undefined =>
  code === 1000 ? undefined : `closed with code ${code}${reason === "" ? "" : `: ${reason}`}`

/** Opens links to one address. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onBinary, onMalformed, onEnd }) => {
    const { url, connectTimeout = "10 seconds", heartbeat = "15 seconds" } = options
    const connectTimeoutMs = Duration.toMillis(connectTimeout)
    const heartbeatMs = timerMs(Duration.toMillis(heartbeat))
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        yield* checkSecret(url, options)
        let opened: WebSocketChannel | undefined
        let failure: string | undefined
        // Registered before connecting: a connection may succeed and be interrupted in the same turn, and its result be
        // lost.
        yield* Effect.addFinalizer(() => (opened === undefined ? Effect.void : close(opened)))
        const connected = connect(options, (ws, socket) => {
          opened = new WebSocketChannel(ws, socket, {
            intervalMs: heartbeatMs,
            maxUnanswered: 1,
            // The server may wait for us to read.
            countsWhilePaused: false,
            onSilent: () => {
              failure = `nothing was heard of the server for ${2 * heartbeatMs} ms`
            }
          })
          return opened
        })
        const channel = yield* restore(
          Effect.timeoutFail(connected, {
            duration: connectTimeoutMs,
            onTimeout: () => new ConnectTimeout({ url, afterMs: connectTimeoutMs })
          })
        )
        const { ws } = channel
        ws.on("message", (data: Buffer, isBinary: boolean) => {
          if (isBinary) onBinary(data)
          else onMessage(data.toString())
        })
        ws.on("error", (error: NodeJS.ErrnoException) => {
          failure = message(error)
          // Errors of ws (WS_ERR_*) are protocol violations; others are network errors.
          if (error.code?.startsWith("WS_ERR_") === true) onMalformed(failure)
        })
        channel.onceClosed((code, reason) => onEnd(failure ?? describe(code, reason)))
        channel.resume()
        const link: Link = {
          send: (text) => channel.send(text),
          close: () => channel.close(1000, ""),
          pause: () => channel.pause(),
          resume: () => channel.resume()
        }
        return link
      })
    )
  }
