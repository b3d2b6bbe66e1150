/**
 * Messages over WebSocket: one a text frame.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { isLoopback } from "../internal/Loopback.js"
import { WebSocketChannel } from "../internal/WebSocketChannel.js"
import { ConnectFailed, ConnectTimeout, InsecureSecret } from "./ClientError.js"
import type { Link, OpenLink } from "./TextChannel.js"

/** How to reach a server. */
export interface Options {
  /** `ws://`, `wss://`, or `unix:///PATH` of a socket on this machine. */
  readonly url: string
  /** Of the upgrade request. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** A bearer token, shown to the server before it upgrades. */
  readonly token?: string | undefined
  /**
   * Send a token, or another secret of the request, also to other machines over `ws://`, where everybody on the way can
   * read it. Refused without.
   */
  readonly insecure?: boolean | undefined
  /** How long the connection may take to come about, in milliseconds; 10 s. */
  readonly connectTimeoutMs?: number | undefined
  /** The longest message that is read, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** How often a silent server is asked whether it is there, in milliseconds; 15 s. It may be silent for twice that. */
  readonly heartbeatMs?: number | undefined
}

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

/**
 * Fails before anything is sent where a secret would travel in plain text to another machine: a token, a header that
 * authorizes, or credentials in the address.
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

/** Connects; interruption leaves nothing behind. `onOpen` is told of the socket at once, for whoever is to close it. */
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
      // Compression costs more than it saves between machines that are near each other, and some servers refuse it.
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
      // What comes before anybody listens stays with the socket.
      ws.pause()
      resume(Effect.succeed(onOpen(ws, socket)))
    })
    return Effect.sync(() => ws.terminate())
  })

/** Says goodbye, and waits for the end, which the channel bounds. */
const close = (channel: WebSocketChannel) =>
  Effect.async<void>((resume) => {
    channel.onceClosed(() => resume(Effect.void))
    channel.close(1000, "")
  })

const describe = (code: number, reason: string): string | undefined =>
  code === 1000 ? undefined : `closed with code ${code}${reason === "" ? "" : `: ${reason}`}`

/** Links to one address. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onBinary, onMalformed, onEnd }) => {
    const { url, connectTimeoutMs = 10000, heartbeatMs = 15000 } = options
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        yield* checkSecret(url, options)
        let opened: WebSocketChannel | undefined
        let failure: string | undefined
        // Before the dial: it may succeed and be interrupted in the same turn, and then nobody gets what it gives.
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
          // What ws cannot read is no WebSocket, or none that a server may send; other errors are the network's.
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
