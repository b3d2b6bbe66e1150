/**
 * The interface between a client and its transports: typed requests out, typed responses and notifications in.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { Method } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { Notification, Prepared } from "./Api.js"
import type { ClientError, InvalidRequest, ServerError } from "./ClientError.js"

/**
 * The callbacks of a connection. They are called from the event loop, and never after `onEnd`.
 *
 * @category models
 */
export interface ChannelEvents {
  /** The response to a request: its result or the server's error. Called once for each request. */
  readonly onAnswer: (id: number, answer: Either.Either<unknown, ServerError>) => void
  readonly onNotification: (notification: Notification) => void
  /** The connection ended, and why. Called once. */
  readonly onEnd: (error: ClientError) => void
}

/**
 * One connection. Sending after its end does nothing.
 *
 * @category models
 */
export interface Channel {
  /** Sends a request; `id` must be new on this connection. */
  readonly request: (id: number, prepared: Prepared) => void
  /** Sends `initialized`. */
  readonly initialized: () => void
  /** Tells the server that the output of a process was consumed up to `seq`. */
  readonly acknowledgeOutput: (processId: ProcessId, seq: number) => void
  /** Tells the server that the output of an attachment was consumed up to `seq`. */
  readonly acknowledge: (attachmentId: number, seq: number) => void
  /** Pauses or resumes reading from the server, which pauses its processes meanwhile (backpressure). */
  readonly pause: () => void
  readonly resume: () => void
}

/**
 * Connects to one server.
 *
 * @category models
 */
export interface Connector {
  /** Whether the client can reconnect and resume its session. */
  readonly resumable: boolean
  /** Checks a request before it is sent, and encodes it for a transport that sends text. */
  readonly prepare: (method: Method, params: unknown) => Either.Either<Prepared, InvalidRequest>
  /** Connects; the scope closes the connection. */
  readonly open: (events: ChannelEvents) => Effect.Effect<Channel, ClientError, Scope.Scope>
}
