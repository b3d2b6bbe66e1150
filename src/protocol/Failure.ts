/**
 * The failures of requests as tagged classes, and the function that maps each to its error code.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ProcessId } from "./Ids.js"

/**
 * Error codes: those of JSON-RPC, two of the original's own (`notFound`, `sessionAttached`), and `forbidden` (ours).
 *
 * @category constants
 */
export const Code = {
  /** The request is valid but refused. */
  invalidRequest: -32600,
  /** The method does not exist. */
  methodNotFound: -32601,
  /** The parameters are invalid; the message names the member. */
  invalidParams: -32602,
  /** The system or the other end failed; the message is the system's. */
  internal: -32603,
  /** The token of the connection does not permit it. */
  forbidden: -32003,
  /** What the request names does not exist. */
  notFound: -32004,
  /** The session has a live connection; try again. */
  sessionAttached: -32010
} as const

/**
 * The reasons for closing a connection (code 1008) that tell its client not to resume the session (ours).
 *
 * @category constants
 */
export const SessionEnding = {
  takenOver: "the session was taken over",
  ended: "the session was ended"
} as const

/**
 * The request is not allowed at this point of the handshake.
 *
 * @category errors
 */
export class HandshakeOrder extends Schema.TaggedError<HandshakeOrder>()("HandshakeOrder", {
  message: Schema.String
}) {}

/**
 * A parameter that its schema accepts is invalid in context: a combination of fields, for example.
 *
 * @category errors
 */
export class InvalidParams extends Schema.TaggedError<InvalidParams>()("InvalidParams", {
  message: Schema.String
}) {}

/**
 * The session has no process of this id, or no longer retains it.
 *
 * @category errors
 */
export class UnknownProcess extends Schema.TaggedError<UnknownProcess>()("UnknownProcess", { processId: ProcessId }) {
  override get message() {
    return `unknown process id ${this.processId}`
  }
}

/**
 * The process is still being spawned.
 *
 * @category errors
 */
export class ProcessStarting extends Schema.TaggedError<ProcessStarting>()("ProcessStarting", {
  processId: ProcessId
}) {
  override get message() {
    return `process id ${this.processId} is starting`
  }
}

/**
 * The id is in use: its process is starting, running, or closed but still retained.
 *
 * @category errors
 */
export class ProcessExists extends Schema.TaggedError<ProcessExists>()("ProcessExists", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} already exists`
  }
}

/**
 * The operating system could not start the program; the message is the system's.
 *
 * @category errors
 */
export class SpawnFailed extends Schema.TaggedError<SpawnFailed>()("SpawnFailed", { message: Schema.String }) {}

/**
 * v0 clients only: the process has no open stdin. Other clients get a `status` in the result of `process/write`.
 *
 * @category errors
 */
export class StdinClosed extends Schema.TaggedError<StdinClosed>()("StdinClosed", { processId: ProcessId }) {
  override get message() {
    return `stdin is closed for process ${this.processId}`
  }
}

/**
 * The process has no terminal, so it cannot be resized.
 *
 * @category errors
 */
export class NotATerminal extends Schema.TaggedError<NotATerminal>()("NotATerminal", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} has no terminal; start it with \`tty: true\``
  }
}

/**
 * The server does not support or does not permit the request; the message says what is allowed.
 *
 * @category errors
 */
export class NotAllowed extends Schema.TaggedError<NotAllowed>()("NotAllowed", { message: Schema.String }) {}

/**
 * The grant of the connection does not permit the request. The message names the role that would.
 *
 * @category errors
 */
export class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", { message: Schema.String }) {}

/**
 * An HTTP exchange failed: there was no response, or an incomplete one.
 *
 * @category errors
 */
export class HttpFailed extends Schema.TaggedError<HttpFailed>()("HttpFailed", { message: Schema.String }) {}

/**
 * A configured limit is reached; the message names it.
 *
 * @category errors
 */
export class LimitReached extends Schema.TaggedError<LimitReached>()("LimitReached", {
  limit: Schema.String,
  value: Schema.Number,
  advice: Schema.String
}) {
  override get message() {
    return `the limit ${this.limit} (${this.value}) is reached; ${this.advice}`
  }
}

/**
 * No session has this id, or it has expired.
 *
 * @category errors
 */
export class UnknownSession extends Schema.TaggedError<UnknownSession>()("UnknownSession", {
  sessionId: Schema.String
}) {
  override get message() {
    return `unknown session id ${this.sessionId}`
  }
}

/**
 * The session has a live connection. Clients retry `initialize` on this error code, and only on this one.
 *
 * @category errors
 */
export class SessionAttached extends Schema.TaggedError<SessionAttached>()("SessionAttached", {
  sessionId: Schema.String
}) {
  override get message() {
    return `session ${this.sessionId} is already attached to another connection`
  }
}

/**
 * A file or directory does not exist; the message is the system's.
 *
 * @category errors
 */
export class FileNotFound extends Schema.TaggedError<FileNotFound>()("FileNotFound", { message: Schema.String }) {}

/**
 * A file operation is not permitted: by permissions, by an argument out of range, or by the type of the file.
 *
 * @category errors
 */
export class FileRefused extends Schema.TaggedError<FileRefused>()("FileRefused", { message: Schema.String }) {}

/**
 * Any other file error of the system; the message is the system's.
 *
 * @category errors
 */
export class FileFailed extends Schema.TaggedError<FileFailed>()("FileFailed", { message: Schema.String }) {}

/**
 * The connection has no open file of this handle id.
 *
 * @category errors
 */
export class UnknownFileHandle extends Schema.TaggedError<UnknownFileHandle>()("UnknownFileHandle", {
  handleId: Schema.String
}) {
  override get message() {
    return `unknown file handle \`${this.handleId}\``
  }
}

/**
 * The connection has no attachment of this id, or it has ended.
 *
 * @category errors
 */
export class UnknownAttachment extends Schema.TaggedError<UnknownAttachment>()("UnknownAttachment", {
  attachmentId: Schema.Number
}) {
  override get message() {
    return `unknown attachment id ${this.attachmentId}`
  }
}

/**
 * The server has no recording of this id.
 *
 * @category errors
 */
export class UnknownRecording extends Schema.TaggedError<UnknownRecording>()("UnknownRecording", {
  recordingId: Schema.String
}) {
  override get message() {
    return `unknown recording id ${this.recordingId}`
  }
}

/**
 * The server has no share of this id.
 *
 * @category errors
 */
export class UnknownShare extends Schema.TaggedError<UnknownShare>()("UnknownShare", { shareId: Schema.String }) {
  override get message() {
    return `unknown share id ${this.shareId}`
  }
}

/**
 * The screen of a terminal could not be made; the message says why.
 *
 * @category errors
 */
export class ScreenFailed extends Schema.TaggedError<ScreenFailed>()("ScreenFailed", { message: Schema.String }) {}

/**
 * Every failure of a request.
 *
 * @category errors
 */
export const Failure = Schema.Union(
  HandshakeOrder,
  InvalidParams,
  UnknownProcess,
  ProcessStarting,
  ProcessExists,
  SpawnFailed,
  StdinClosed,
  NotATerminal,
  NotAllowed,
  Forbidden,
  HttpFailed,
  LimitReached,
  UnknownSession,
  SessionAttached,
  FileNotFound,
  FileRefused,
  FileFailed,
  UnknownFileHandle,
  UnknownAttachment,
  ScreenFailed,
  UnknownRecording,
  UnknownShare
)
export type Failure = typeof Failure.Type

/**
 * The error code of a failure. Its `message` is sent unchanged.
 *
 * @category utilities
 */
export const codeOf = (failure: Failure): number => {
  switch (failure._tag) {
    case "InvalidParams":
      return Code.invalidParams
    case "SpawnFailed":
    case "HttpFailed":
    case "FileFailed":
    case "ScreenFailed":
      return Code.internal
    case "FileNotFound":
    case "UnknownFileHandle":
    case "UnknownRecording":
    case "UnknownShare":
    case "UnknownAttachment":
      return Code.notFound
    case "SessionAttached":
      return Code.sessionAttached
    case "Forbidden":
      return Code.forbidden
    case "HandshakeOrder":
    case "UnknownProcess":
    case "ProcessStarting":
    case "ProcessExists":
    case "StdinClosed":
    case "NotATerminal":
    case "NotAllowed":
    case "LimitReached":
    case "UnknownSession":
    case "FileRefused":
      return Code.invalidRequest
  }
}
