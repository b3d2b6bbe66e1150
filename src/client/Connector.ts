/**
 * How a client reaches a server: typed requests one way, typed answers and notifications the other, whatever carries
 * them.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { Method } from "../protocol/ExecApi.js"
import type { Notification, Prepared } from "./Api.js"
import type { ClientError, InvalidRequest, ServerError } from "./ClientError.js"

/** What a connection reports. Every call comes from the event loop; none after `onEnd`. */
export interface ChannelEvents {
  /** The answer to a request: the result of its method, or the server's refusal. Once for each request. */
  readonly onAnswer: (id: number, answer: Either.Either<unknown, ServerError>) => void
  readonly onNotification: (notification: Notification) => void
  /** The connection is over, and why. Once. */
  readonly onEnd: (error: ClientError) => void
}

/** One connection. Sending on one that is over does nothing. */
export interface Channel {
  /** Sends a request under an id that this connection has not seen. */
  readonly request: (id: number, prepared: Prepared) => void
  /** Says that the client is ready for notifications. */
  readonly initialized: () => void
  /** Stops, or goes on with, taking what the server sends: it holds its processes up meanwhile. */
  readonly pause: () => void
  readonly resume: () => void
}

/** A way to a server. */
export interface Connector {
  /** Whether a lost connection can be followed by another one to the same session. */
  readonly resumable: boolean
  /** Checks a request before it is sent, and writes it where text travels. */
  readonly prepare: (method: Method, params: unknown) => Either.Either<Prepared, InvalidRequest>
  /** Connects; the connection ends with the scope. */
  readonly open: (events: ChannelEvents) => Effect.Effect<Channel, ClientError, Scope.Scope>
}
