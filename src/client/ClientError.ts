/**
 * The client's errors as tagged classes, and which of them are worth a retry.
 *
 * @since 0.1.0
 */

import * as Data from "effect/Data"
import { Code, SessionEnding } from "../protocol/Failure.js"
import { redactUrl } from "../protocol/Redact.js"

/**
 * The server's program could not be started; `reason` is the system's error.
 *
 * @category errors
 */
export class LaunchFailed extends Data.TaggedError("LaunchFailed")<{
  readonly program: string
  readonly reason: string
}> {
  override get message() {
    return `failed to spawn exec-server: ${this.program}: ${this.reason}`
  }
}

/**
 * A server that this client started did not print its address in time.
 *
 * @category errors
 */
export class LaunchTimeout extends Data.TaggedError("LaunchTimeout")<{ readonly afterMs: number }> {
  override get message() {
    return `exec-server did not become ready within ${this.afterMs} ms`
  }
}

/**
 * The connection failed: nothing listens at the address, or the WebSocket upgrade was refused.
 *
 * @category errors
 */
export class ConnectFailed extends Data.TaggedError("ConnectFailed")<{
  /** Without secrets. */
  readonly url: string
  readonly reason: string
  /** The HTTP status of a refused upgrade. */
  readonly status?: number
}> {
  constructor(failure: { readonly url: string; readonly reason: string; readonly status?: number }) {
    const url = redactUrl(failure.url)
    // The WebSocket library quotes the address in its messages: redact it there too.
    super({ ...failure, url, reason: failure.reason.replaceAll(failure.url, url) })
  }

  override get message() {
    return `failed to connect to exec-server websocket \`${this.url}\`: ${this.reason}`
  }
}

/**
 * A secret would have been sent in plain text to another machine; no connection was made.
 *
 * @category errors
 */
export class InsecureSecret extends Data.TaggedError("InsecureSecret")<{
  /** Without secrets. */
  readonly url: string
}> {
  constructor({ url }: { readonly url: string }) {
    super({ url: redactUrl(url) })
  }

  override get message() {
    return (
      `the token is not sent to \`${this.url}\`, because everybody on the way could read it: use wss://, or ` +
      "an ssh tunnel (ssh -L) to a port of this machine, or allow it with --insecure (option or key `insecure`)"
    )
  }
}

/**
 * The connection was not established in time.
 *
 * @category errors
 */
export class ConnectTimeout extends Data.TaggedError("ConnectTimeout")<{
  /** Without secrets. */
  readonly url: string
  readonly afterMs: number
}> {
  constructor(timeout: { readonly url: string; readonly afterMs: number }) {
    super({ ...timeout, url: redactUrl(timeout.url) })
  }

  override get message() {
    return `timed out connecting to exec-server websocket \`${this.url}\` after ${this.afterMs} ms`
  }
}

/**
 * The server did not answer `initialize` in time.
 *
 * @category errors
 */
export class InitializeTimeout extends Data.TaggedError("InitializeTimeout")<{ readonly afterMs: number }> {
  override get message() {
    return `timed out waiting for exec-server initialize handshake after ${this.afterMs} ms`
  }
}

/**
 * The server did not answer a request in time, though it could have. Whether it was carried out is unknown.
 *
 * @category errors
 */
export class AnswerTimeout extends Data.TaggedError("AnswerTimeout")<{
  readonly method: string
  readonly afterMs: number
}> {
  override get message() {
    return `exec-server did not answer ${this.method} within ${this.afterMs} ms`
  }
}

/**
 * The connection ended; `reason` says why, if that is known.
 *
 * @category errors
 */
export class TransportClosed extends Data.TaggedError("TransportClosed")<{ readonly reason: string | undefined }> {
  override get message() {
    return this.reason === undefined
      ? "exec-server transport closed"
      : `exec-server transport disconnected: ${this.reason}`
  }
}

/**
 * The server violated the protocol; the client closed the connection.
 *
 * @category errors
 */
export class ProtocolViolation extends Data.TaggedError("ProtocolViolation")<{ readonly detail: string }> {
  override get message() {
    return `exec-server protocol error: ${this.detail}`
  }
}

/**
 * The server answered a request with an error; `code` and `reason` are the server's.
 *
 * @category errors
 */
export class ServerError extends Data.TaggedError("ServerError")<{
  readonly code: number
  readonly reason: string
  /** With an error of the operating system: the path or the program that it is about, by the server or the request. */
  readonly about?: string
}> {
  override get message() {
    return `exec-server rejected request (${this.code}): ${this.reason}${this.about === undefined ? "" : `: ${this.about}`}`
  }
}

/**
 * The parameters of a request are invalid; nothing was sent.
 *
 * @category errors
 */
export class InvalidRequest extends Data.TaggedError("InvalidRequest")<{
  readonly method: string
  readonly detail: string
}> {
  override get message() {
    return `cannot send ${this.method}: ${this.detail}`
  }
}

/**
 * Too many requests await their responses; nothing was sent.
 *
 * @category errors
 */
export class TooManyRequests extends Data.TaggedError("TooManyRequests")<{ readonly limit: string }> {
  override get message() {
    return `more than ${this.limit} wait for an answer; wait for some of them first`
  }
}

/**
 * The server does not support the operation; nothing was sent or changed.
 *
 * @category errors
 */
export class Unsupported extends Data.TaggedError("Unsupported")<{
  /** The name of the server in the message. */
  readonly server: string
  /** What it cannot do. */
  readonly what: string
  /** What to do instead. */
  readonly advice?: string | undefined
}> {
  override get message() {
    return `${this.server} cannot ${this.what}${this.advice === undefined ? "" : `; ${this.advice}`}`
  }
}

/**
 * The connection was lost and the session could not be resumed.
 *
 * @category errors
 */
export class SessionLost extends Data.TaggedError("SessionLost")<{
  readonly disconnect: ClientError
  readonly cause: ClientError
}> {
  override get message(): string {
    return `${this.disconnect.message}; failed to resume exec-server session: ${this.cause.message}`
  }
}

/**
 * Events of a process were lost during a long disconnection; the process was terminated.
 *
 * @category errors
 */
export class EventsLost extends Data.TaggedError("EventsLost")<{
  readonly processId: string
  readonly throughSeq: number
}> {
  override get message() {
    return (
      `failed to recover process ${this.processId}: exec-server protocol error: ` +
      `process events are no longer retained while recovering through sequence ${this.throughSeq}`
    )
  }
}

/**
 * The body of a streamed HTTP response is incomplete; `reason` says why.
 *
 * @category errors
 */
export class BodyBroken extends Data.TaggedError("BodyBroken")<{
  readonly requestId: string
  readonly reason: string
}> {
  override get message() {
    return `HTTP request failed: ${this.reason}`
  }
}

/**
 * A process of this client already has the id.
 *
 * @category errors
 */
export class DuplicateProcess extends Data.TaggedError("DuplicateProcess")<{ readonly processId: string }> {
  override get message() {
    return `session already registered for process ${this.processId}`
  }
}

/**
 * The process has no open stdin.
 *
 * @category errors
 */
export class WriteRefused extends Data.TaggedError("WriteRefused")<{
  readonly processId: string
  readonly status: "unknownProcess" | "starting" | "stdinClosed"
}> {
  override get message() {
    return `cannot write to process ${this.processId}: ${this.status}`
  }
}

/**
 * The reader was too slow, and output was dropped before it could read it.
 *
 * @category errors
 */
export class OutputMissed extends Data.TaggedError("OutputMissed")<{
  readonly processId: string
  readonly events: number
  readonly bytes: number
}> {
  override get message() {
    return `${this.bytes} bytes of output of process ${this.processId} were not read in time and are gone`
  }
}

/**
 * Any failure between a client and its server.
 *
 * @category errors
 */
export type ClientError =
  | LaunchFailed
  | LaunchTimeout
  | ConnectFailed
  | InsecureSecret
  | ConnectTimeout
  | InitializeTimeout
  | AnswerTimeout
  | TransportClosed
  | ProtocolViolation
  | ServerError
  | InvalidRequest
  | TooManyRequests
  | Unsupported
  | SessionLost
  | EventsLost
  | DuplicateProcess

/**
 * Whether a session is attached to another connection, which may be closing. Before 0.141 only the text tells.
 *
 * @category predicates
 */
export const isAttached = (error: ClientError): boolean =>
  error._tag === "ServerError" &&
  (error.code === Code.sessionAttached ||
    (error.code === Code.invalidRequest &&
      /^session \S+ is already attached to another connection$/.test(error.reason)))

/** The error of a server whose upstream connection broke during a request (current). */
const brokenUpstream = { code: -32000, reason: "JSON-RPC transport closed" }

/** Whether a refused upgrade may succeed later: the server is overloaded, or (409) not registered yet. */
const isPassing = (status: number) => status >= 500 || status === 408 || status === 409 || status === 429

/** The reasons with which a server closes connections whose session cannot be resumed, or that must not take it back. */
const sessionEndings = Object.values(SessionEnding)

/**
 * Whether a retry may succeed after this error.
 *
 * @category predicates
 */
export const isRetryable = (error: ClientError): boolean => {
  switch (error._tag) {
    case "TransportClosed":
      return !sessionEndings.some((ending) => error.reason?.endsWith(ending))
    case "ConnectTimeout":
    case "InitializeTimeout":
      return true
    case "ConnectFailed":
      return error.status === undefined || isPassing(error.status)
    case "ServerError":
      return isAttached(error) || (error.code === brokenUpstream.code && error.reason === brokenUpstream.reason)
    case "AnswerTimeout":
    case "LaunchFailed":
    case "LaunchTimeout":
    case "InsecureSecret":
    case "ProtocolViolation":
    case "InvalidRequest":
    case "TooManyRequests":
    case "Unsupported":
    case "SessionLost":
    case "EventsLost":
    case "DuplicateProcess":
      return false
  }
}
