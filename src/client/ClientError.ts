/**
 * Everything that can go wrong for a client, as tagged classes, and which of it a lost connection survives.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import { Code } from "../protocol/Failure.js"
import { redactUrl } from "../protocol/Redact.js"

/** The server's program could not be started; `reason` is the system's. */
export class LaunchFailed extends Data.TaggedError("LaunchFailed")<{
  readonly program: string
  readonly reason: string
}> {
  override get message() {
    return `failed to spawn exec-server: ${this.program}: ${this.reason}`
  }
}

/** A server that was started here did not print its address in time. */
export class LaunchTimeout extends Data.TaggedError("LaunchTimeout")<{ readonly afterMs: number }> {
  override get message() {
    return `exec-server did not become ready within ${this.afterMs} ms`
  }
}

/** Nobody answers at the address, or somebody who does not speak WebSocket. */
export class ConnectFailed extends Data.TaggedError("ConnectFailed")<{
  /** Without what may be secret in it. */
  readonly url: string
  readonly reason: string
  /** The HTTP status, where the upgrade was refused with one. */
  readonly status?: number
}> {
  constructor(failure: { readonly url: string; readonly reason: string; readonly status?: number }) {
    const url = redactUrl(failure.url)
    // What the WebSocket library says of an address quotes it.
    super({ ...failure, url, reason: failure.reason.replaceAll(failure.url, url) })
  }

  override get message() {
    return `failed to connect to exec-server websocket \`${this.url}\`: ${this.reason}`
  }
}

/** A secret would have been sent in plain text to another machine; nothing was sent, and nobody was connected to. */
export class InsecureSecret extends Data.TaggedError("InsecureSecret")<{
  /** Without what may be secret in it. */
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

/** The connection did not come about in time. */
export class ConnectTimeout extends Data.TaggedError("ConnectTimeout")<{
  /** Without what may be secret in it. */
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

/** The server did not answer `initialize` in time. */
export class InitializeTimeout extends Data.TaggedError("InitializeTimeout")<{ readonly afterMs: number }> {
  override get message() {
    return `timed out waiting for exec-server initialize handshake after ${this.afterMs} ms`
  }
}

/** The connection ended; with a reason, where there is more to say than that. */
export class TransportClosed extends Data.TaggedError("TransportClosed")<{ readonly reason: string | undefined }> {
  override get message() {
    return this.reason === undefined
      ? "exec-server transport closed"
      : `exec-server transport disconnected: ${this.reason}`
  }
}

/** The server said what no server may say: the connection was ended for it. */
export class ProtocolViolation extends Data.TaggedError("ProtocolViolation")<{ readonly detail: string }> {
  override get message() {
    return `exec-server protocol error: ${this.detail}`
  }
}

/** The server refused a request; `code` and `reason` are its own. */
export class ServerError extends Data.TaggedError("ServerError")<{ readonly code: number; readonly reason: string }> {
  override get message() {
    return `exec-server rejected request (${this.code}): ${this.reason}`
  }
}

/** The parameters are none that the method takes; nothing was sent. */
export class InvalidRequest extends Data.TaggedError("InvalidRequest")<{
  readonly method: string
  readonly detail: string
}> {
  override get message() {
    return `cannot send ${this.method}: ${this.detail}`
  }
}

/** Too much was asked without waiting for the answers; nothing was sent. */
export class TooManyRequests extends Data.TaggedError("TooManyRequests")<{ readonly limit: string }> {
  override get message() {
    return `more than ${this.limit} wait for an answer; wait for some of them first`
  }
}

/** The server does not serve what was asked for; nothing was sent, or nothing was done. */
export class Unsupported extends Data.TaggedError("Unsupported")<{
  /** What the server is, as a message names it. */
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

/** The connection was lost and the session could not be taken up again. */
export class SessionLost extends Data.TaggedError("SessionLost")<{
  readonly disconnect: ClientError
  readonly cause: ClientError
}> {
  override get message(): string {
    return `${this.disconnect.message}; failed to resume exec-server session: ${this.cause.message}`
  }
}

/** The connection was lost for so long that some of a process's events are gone; the process was terminated. */
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

/** The body of a streamed HTTP response is not whole, and why. */
export class BodyBroken extends Data.TaggedError("BodyBroken")<{
  readonly requestId: string
  readonly reason: string
}> {
  override get message() {
    return `HTTP request failed: ${this.reason}`
  }
}

/** A process of this client already has the id. */
export class DuplicateProcess extends Data.TaggedError("DuplicateProcess")<{ readonly processId: string }> {
  override get message() {
    return `session already registered for process ${this.processId}`
  }
}

/** The process takes no input, any more or at all. */
export class WriteRefused extends Data.TaggedError("WriteRefused")<{
  readonly processId: string
  readonly status: "unknownProcess" | "starting" | "stdinClosed"
}> {
  override get message() {
    return `cannot write to process ${this.processId}: ${this.status}`
  }
}

/** Some output was gone before this reader came to it: how much, exactly. */
export class OutputMissed extends Data.TaggedError("OutputMissed")<{
  readonly processId: string
  readonly events: number
  readonly bytes: number
}> {
  override get message() {
    return `${this.bytes} bytes of output of process ${this.processId} were not read in time and are gone`
  }
}

/** Whatever goes wrong between a client and its server. */
export type ClientError =
  | LaunchFailed
  | LaunchTimeout
  | ConnectFailed
  | InsecureSecret
  | ConnectTimeout
  | InitializeTimeout
  | TransportClosed
  | ProtocolViolation
  | ServerError
  | InvalidRequest
  | TooManyRequests
  | Unsupported
  | SessionLost
  | EventsLost
  | DuplicateProcess

/** Whether a session has another connection, which may just be ending; before 0.141 only the text says so. */
export const isAttached = (error: ClientError): boolean =>
  error._tag === "ServerError" &&
  (error.code === Code.sessionAttached ||
    (error.code === Code.invalidRequest &&
      /^session \S+ is already attached to another connection$/.test(error.reason)))

/** What a server answers whose own connection broke in the middle of a request (now). */
const brokenUpstream = { code: -32000, reason: "JSON-RPC transport closed" }

/** A refusal to upgrade that another attempt may not meet: a server that is overloaded, or (409) not there yet. */
const isPassing = (status: number) => status >= 500 || status === 408 || status === 409 || status === 429

/** Whether another attempt to take up a session may succeed where one failed with this. */
export const isRetryable = (error: ClientError): boolean => {
  switch (error._tag) {
    case "TransportClosed":
    case "ConnectTimeout":
    case "InitializeTimeout":
      return true
    case "ConnectFailed":
      return error.status === undefined || isPassing(error.status)
    case "ServerError":
      return isAttached(error) || (error.code === brokenUpstream.code && error.reason === brokenUpstream.reason)
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
