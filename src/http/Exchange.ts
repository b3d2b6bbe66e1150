/**
 * One exchange with Node's HTTP client, including redirects. It uses only callbacks: no fiber runs between a body and
 * its reader.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { ClientRequest, IncomingMessage } from "node:http"
import * as Either from "effect/Either"
import * as Redirect from "../internal/Redirect.js"
import { timerMs } from "../internal/Timer.js"
import type { HttpHeader } from "../protocol/HttpApi.js"
import type { HttpRequest } from "./HttpRequest.js"
import type { ProxyRoutes, Route } from "./ProxyRoutes.js"

/**
 * The reports of a body. `onEnd` or `onError` is the last.
 *
 * @category models
 */
export interface BodyEvents {
  readonly onData: (chunk: Buffer) => void
  /** The whole body was reported. */
  readonly onEnd: () => void
  /** The body is incomplete, and why. */
  readonly onError: (reason: string) => void
}

/**
 * The body of a response, as on the wire.
 *
 * @category models
 */
export interface Body {
  /** Starts the reports, once. */
  readonly listen: (events: BodyEvents) => void
  /** Pauses and resumes reading from the server. Nothing is reported after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
}

/**
 * A response whose headers have arrived.
 *
 * @category models
 */
export interface Response {
  readonly status: number
  readonly headers: ReadonlyArray<HttpHeader>
  readonly body: Body
}

/**
 * The outcome of the first half of an exchange.
 *
 * @category models
 */
export interface ExchangeEvents {
  readonly onResponse: (response: Response) => void
  /** There is no response, for this reason. */
  readonly onError: (reason: string) => void
}

/** The original's message for an incomplete body, whatever the cause. */
const brokenBody = "error decoding response body"

/** The largest head of a response, in bytes. */
const maxHeaderSize = 65536

/** Methods that may be resent if a reused connection turns out to be closed. */
const idempotent: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

/** Visible ASCII, spaces and tabs. */
const visible = /^[\t\x20-\x7e]*$/

/** The headers of a response that are text, in their order. */
const headersOf = ({ rawHeaders }: IncomingMessage): ReadonlyArray<HttpHeader> => {
  const headers: Array<HttpHeader> = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const value = rawHeaders[i + 1] ?? ""
    if (visible.test(value)) headers.push({ name: (rawHeaders[i] ?? "").toLowerCase(), value })
  }
  return headers
}

/** The reason of a failed TLS handshake or a refusing proxy, which a user can act on. Empty for other errors. */
const reasonOf = (error: NodeJS.ErrnoException & { readonly reason?: string }): string => {
  const { code } = error
  // Errors without a code are thrown by this module.
  if (code === undefined) return `: ${error.message}`
  // OpenSSL's message begins with a position in its source code; the reason does not.
  if (/^(ERR_SSL|EPROTO)/.test(code)) return `: ${error.reason ?? code}`
  return /^ERR_TLS|CERT|SIGNATURE|CRL/.test(code) ? `: ${error.message}` : ""
}

/**
 * One exchange. After `abort` nothing is reported.
 *
 * @category models
 */
export class Exchange {
  private current: ClientRequest | undefined
  private timer: NodeJS.Timeout | undefined
  private redirects = 0
  private ended = false
  private breakBody: (() => void) | undefined
  private onBodyError: (() => void) | undefined
  private events: ExchangeEvents | undefined

  constructor(
    private request: HttpRequest,
    private readonly routes: ProxyRoutes
  ) {}

  /** Sends the request, once. */
  start(events: ExchangeEvents): void {
    this.events = events
    const { timeoutMs } = this.request
    if (timeoutMs === 0) this.fail("route-aware request timed out")
    else {
      if (timeoutMs !== undefined) this.timer = setTimeout(() => this.onTimeout(), timerMs(timeoutMs))
      this.send()
    }
  }

  /** Ends the exchange and its connection at once, unless it has ended already. */
  abort(): void {
    if (this.ended) return
    this.settle()
    this.current?.destroy()
  }

  private settle(): void {
    this.ended = true
    clearTimeout(this.timer)
  }

  private onTimeout(): void {
    if (this.breakBody !== undefined) this.breakBody()
    else this.failSending()
    this.current?.destroy()
  }

  private failSending(detail = ""): void {
    this.fail(`error sending request for url (${this.request.url.href})${detail}`)
  }

  private fail(reason: string): void {
    if (this.ended) return
    this.settle()
    this.events?.onError(reason)
  }

  private send(): void {
    try {
      const { client, options, headers } = this.routes.to(this.request.url)
      const sent = client.request({ ...options, method: this.request.method, setHost: false, maxHeaderSize })
      this.current = sent
      this.listen(sent)
      this.write(sent, headers)
    } catch (error) {
      // An unusable proxy, or a header that Node.js refuses to send.
      this.failSending(error instanceof Error ? `: ${error.message}` : "")
      this.current?.destroy()
    }
  }

  private listen(sent: ClientRequest): void {
    sent.on("error", (error: NodeJS.ErrnoException) => {
      // A redirect has already destroyed this request.
      if (sent !== this.current || this.ended) return
      if (this.onBodyError !== undefined) return this.onBodyError()
      // The server closed a reused connection while the request was being sent.
      const stale = sent.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE")
      if (stale && idempotent.has(this.request.method)) return this.send()
      this.failSending(reasonOf(error))
    })
    // Upgrades and tunnels are not supported.
    const refuse = (_: IncomingMessage, socket: { readonly destroy: () => unknown }) => {
      socket.destroy()
      this.failSending()
    }
    sent.on("upgrade", refuse)
    sent.on("connect", refuse)
    sent.on("response", (response) => this.onResponse(sent, response))
  }

  private write(sent: ClientRequest, ofRoute: Route["headers"]): void {
    const { method, url, headers, body } = this.request
    // Node.js upper-cases methods; the client's spelling is sent.
    sent.method = method
    const grouped = new Map<string, Array<string>>()
    const add = (name: string, value: string) => {
      const values = grouped.get(name)
      if (values === undefined) grouped.set(name, [value])
      else values.push(value)
    }
    for (const { name, value } of headers) add(name, value)
    if (!grouped.has("host")) add("host", url.host)
    for (const [name, value] of Object.entries(ofRoute)) add(name, value)
    if (body !== undefined && body.length > 0) add("content-length", String(body.length))
    for (const [name, values] of grouped) sent.setHeader(name, values.length === 1 ? (values[0] ?? "") : values)
    // No `connection: keep-alive`: it is the default of HTTP/1.1.
    if (!grouped.has("connection")) sent.removeHeader("connection")
    sent.end(body)
  }

  private onResponse(sent: ClientRequest, response: IncomingMessage): void {
    // An error without a listener would crash the server.
    response.on("error", () => {})
    if (this.ended) return void sent.destroy()
    const status = response.statusCode ?? 0
    const location = this.request.redirectPolicy === "stop" ? undefined : response.headers.location
    const following = Redirect.next(this.request, status, location, this.redirects)
    if (Either.isLeft(following)) {
      this.fail(`${following.left} for url (${this.request.url.href})`)
      return void sent.destroy()
    }
    if (following.right === undefined) {
      this.events?.onResponse({ status, headers: headersOf(response), body: this.body(response) })
      return
    }
    this.redirects++
    this.request = following.right
    this.current = undefined
    // The body of a redirect may have any length: do not read it.
    sent.destroy()
    this.send()
  }

  private body(response: IncomingMessage): Body {
    let events: BodyEvents | undefined
    let broken = false
    const breakOff = () => {
      if (this.ended || broken) return
      // Kept for a later listener.
      broken = true
      if (events === undefined) return
      this.settle()
      events.onError(brokenBody)
    }
    // For Node.js a body that ends with its connection is complete even if the connection was reset.
    const onError = () => {
      if (!response.complete) breakOff()
    }
    this.breakBody = breakOff
    this.onBodyError = onError
    response.once("error", onError)
    response.once("close", onError)
    return {
      listen: (listener) => {
        events = listener
        if (broken) {
          this.settle()
          return listener.onError(brokenBody)
        }
        response.once("end", () => {
          if (this.ended || broken) return
          this.settle()
          listener.onEnd()
        })
        response.on("data", (chunk: Buffer) => {
          if (!this.ended) listener.onData(chunk)
        })
      },
      pause: () => void response.pause(),
      resume: () => void response.resume()
    }
  }
}
