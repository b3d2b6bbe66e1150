/**
 * Everything that can go wrong with a request, as tagged classes, and the one function that gives each its code.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ProcessId } from "./Ids.js"

/** JSON-RPC and exec-server error codes. */
export const Code = {
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  notFound: -32004,
  sessionAttached: -32010
} as const

/** The request came at the wrong moment of the handshake. */
export class HandshakeOrder extends Schema.TaggedError<HandshakeOrder>()("HandshakeOrder", {
  message: Schema.String
}) {}

/** A decoded value that no schema could refuse is not allowed. */
export class InvalidParams extends Schema.TaggedError<InvalidParams>()("InvalidParams", {
  message: Schema.String
}) {}

/** No process of the session has this id, or its retention is over. */
export class UnknownProcess extends Schema.TaggedError<UnknownProcess>()("UnknownProcess", { processId: ProcessId }) {
  override get message() {
    return `unknown process id ${this.processId}`
  }
}

/** The process is still being spawned. */
export class ProcessStarting extends Schema.TaggedError<ProcessStarting>()("ProcessStarting", {
  processId: ProcessId
}) {
  override get message() {
    return `process id ${this.processId} is starting`
  }
}

/** The id is in use: the process is starting, running, or has ended and is still retained. */
export class ProcessExists extends Schema.TaggedError<ProcessExists>()("ProcessExists", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} already exists`
  }
}

/** The operating system refused to start the program; the message is its own. */
export class SpawnFailed extends Schema.TaggedError<SpawnFailed>()("SpawnFailed", { message: Schema.String }) {}

/** v0 only: the process has no stdin that could be written to. */
export class StdinClosed extends Schema.TaggedError<StdinClosed>()("StdinClosed", { processId: ProcessId }) {
  override get message() {
    return `stdin is closed for process ${this.processId}`
  }
}

/** Only a process with a terminal has a size. */
export class NotATerminal extends Schema.TaggedError<NotATerminal>()("NotATerminal", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} has no terminal; start it with \`tty: true\` to resize it`
  }
}

/** The server does not, or may not, do this; the message says what would be allowed. */
export class NotAllowed extends Schema.TaggedError<NotAllowed>()("NotAllowed", { message: Schema.String }) {}

/** An HTTP exchange failed: no response, or not the whole of one. */
export class HttpFailed extends Schema.TaggedError<HttpFailed>()("HttpFailed", { message: Schema.String }) {}

/** A configured limit is reached; the message names it. */
export class LimitReached extends Schema.TaggedError<LimitReached>()("LimitReached", {
  limit: Schema.String,
  value: Schema.Number,
  advice: Schema.String
}) {
  override get message() {
    return `the limit ${this.limit} (${this.value}) is reached; ${this.advice}`
  }
}

/** No session has this id, or it has expired. */
export class UnknownSession extends Schema.TaggedError<UnknownSession>()("UnknownSession", {
  sessionId: Schema.String
}) {
  override get message() {
    return `unknown session id ${this.sessionId}`
  }
}

/** The session has a live connection; clients try again on this code alone. */
export class SessionAttached extends Schema.TaggedError<SessionAttached>()("SessionAttached", {
  sessionId: Schema.String
}) {
  override get message() {
    return `session ${this.sessionId} is already attached to another connection`
  }
}

/** A file or directory does not exist; the message is the system's. */
export class FileNotFound extends Schema.TaggedError<FileNotFound>()("FileNotFound", { message: Schema.String }) {}

/** Nobody may do this with this file: permissions, an argument out of range, or a path to something else. */
export class FileRefused extends Schema.TaggedError<FileRefused>()("FileRefused", { message: Schema.String }) {}

/** Whatever else the system says of a file; the message is its own. */
export class FileFailed extends Schema.TaggedError<FileFailed>()("FileFailed", { message: Schema.String }) {}

/** The connection has no open file of this name. */
export class UnknownFileHandle extends Schema.TaggedError<UnknownFileHandle>()("UnknownFileHandle", {
  handleId: Schema.String
}) {
  override get message() {
    return `unknown file handle \`${this.handleId}\``
  }
}

/** Every failure that a request can be answered with. */
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
  HttpFailed,
  LimitReached,
  UnknownSession,
  SessionAttached,
  FileNotFound,
  FileRefused,
  FileFailed,
  UnknownFileHandle
)
export type Failure = typeof Failure.Type

/** The code of a failure; its message travels as it is. */
export const codeOf = (failure: Failure): number => {
  switch (failure._tag) {
    case "InvalidParams":
      return Code.invalidParams
    case "SpawnFailed":
    case "HttpFailed":
    case "FileFailed":
      return Code.internal
    case "FileNotFound":
    case "UnknownFileHandle":
      return Code.notFound
    case "SessionAttached":
      return Code.sessionAttached
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
