/**
 * The failures of requests as tagged classes, and the function that maps each to its error code.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
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

/** The class of a failure. */
interface FailureClass<Tag extends string, Fields extends Schema.Struct.Fields> {
  new (props: Schema.Struct.Type<Fields>): Cause.YieldableError & { readonly _tag: Tag } & Schema.Struct.Type<Fields>
  readonly tag: Tag
  readonly fields: Fields
}

/**
 * The class of a failure with these fields. Not a `Schema.TaggedError`: two dozen of these take a twentieth of the
 * server's start (`node scratch/bench.mjs --only startup`), and their schemas are hardly ever used.
 */
const failure = <Tag extends string, Fields extends Schema.Struct.Fields>(tag: Tag, fields: Fields) =>
  Object.assign(Data.TaggedError(tag), { tag, fields }) as unknown as FailureClass<Tag, Fields>

/**
 * The request is not allowed at this point of the handshake.
 *
 * @category errors
 */
export class HandshakeOrder extends failure("HandshakeOrder", {
  message: Schema.String
}) {}

/**
 * A parameter that its schema accepts is invalid in context: a combination of fields, for example.
 *
 * @category errors
 */
export class InvalidParams extends failure("InvalidParams", {
  message: Schema.String
}) {}

/**
 * The session has no process of this id, or no longer retains it.
 *
 * @category errors
 */
export class UnknownProcess extends failure("UnknownProcess", { processId: ProcessId }) {
  override get message() {
    return `unknown process id ${this.processId}`
  }
}

/**
 * The process is still being spawned.
 *
 * @category errors
 */
export class ProcessStarting extends failure("ProcessStarting", {
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
export class ProcessExists extends failure("ProcessExists", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} already exists`
  }
}

/**
 * The operating system could not start the program; the message is the system's.
 *
 * @category errors
 */
export class SpawnFailed extends failure("SpawnFailed", { message: Schema.String }) {}

/**
 * v0 clients only: the process has no open stdin. Other clients get a `status` in the result of `process/write`.
 *
 * @category errors
 */
export class StdinClosed extends failure("StdinClosed", { processId: ProcessId }) {
  override get message() {
    return `stdin is closed for process ${this.processId}`
  }
}

/**
 * The process has no terminal, so it cannot be resized.
 *
 * @category errors
 */
export class NotATerminal extends failure("NotATerminal", { processId: ProcessId }) {
  override get message() {
    return `process ${this.processId} has no terminal; start it with \`tty: true\``
  }
}

/**
 * The server does not support or does not permit the request; the message says what is allowed.
 *
 * @category errors
 */
export class NotAllowed extends failure("NotAllowed", { message: Schema.String }) {}

/**
 * The grant of the connection does not permit the request. The message names the role that would.
 *
 * @category errors
 */
export class Forbidden extends failure("Forbidden", { message: Schema.String }) {}

/**
 * An HTTP exchange failed: there was no response, or an incomplete one.
 *
 * @category errors
 */
export class HttpFailed extends failure("HttpFailed", { message: Schema.String }) {}

/**
 * A configured limit is reached; the message names it.
 *
 * @category errors
 */
export class LimitReached extends failure("LimitReached", {
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
export class UnknownSession extends failure("UnknownSession", {
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
export class SessionAttached extends failure("SessionAttached", {
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
export class FileNotFound extends failure("FileNotFound", { message: Schema.String }) {}

/**
 * A file operation is not permitted: by permissions, by an argument out of range, or by the type of the file.
 *
 * @category errors
 */
export class FileRefused extends failure("FileRefused", { message: Schema.String }) {}

/**
 * Any other file error of the system; the message is the system's.
 *
 * @category errors
 */
export class FileFailed extends failure("FileFailed", { message: Schema.String }) {}

/**
 * The connection has no open file of this handle id.
 *
 * @category errors
 */
export class UnknownFileHandle extends failure("UnknownFileHandle", {
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
export class UnknownAttachment extends failure("UnknownAttachment", {
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
export class UnknownRecording extends failure("UnknownRecording", {
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
export class UnknownShare extends failure("UnknownShare", { shareId: Schema.String }) {
  override get message() {
    return `unknown share id ${this.shareId}`
  }
}

/**
 * The screen of a terminal could not be made; the message says why.
 *
 * @category errors
 */
export class ScreenFailed extends failure("ScreenFailed", { message: Schema.String }) {}

/**
 * The classes of all failures.
 *
 * @category errors
 */
export const classes = [
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
] as const

type Classes = (typeof classes)[number]

/**
 * Any failure of a request.
 *
 * @category errors
 */
export type Failure = InstanceType<Classes>

type Encoded = {
  readonly [C in Classes as C["tag"]]: { readonly _tag: C["tag"] } & Schema.Struct.Encoded<C["fields"]>
}[Classes["tag"]]

/** Any of the classes. */
interface AnyClass {
  new (props: never): Failure
  readonly tag: string
  readonly fields: Schema.Struct.Fields
}

const schemaOf = (of: AnyClass) =>
  Schema.transform(Schema.Struct({ _tag: Schema.Literal(of.tag), ...of.fields }), Schema.instanceOf(of), {
    strict: false,
    decode: (props) => new of(props as never),
    encode: (one) => one
  })

/**
 * Every failure of a request. Made on first use.
 *
 * @category errors
 */
export const Failure: Schema.Schema<Failure, Encoded> = Schema.suspend(
  // The cast is from a union of what one function makes of many classes.
  () => Schema.Union(...classes.map(schemaOf)) as unknown as Schema.Schema<Failure, Encoded>
)

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
