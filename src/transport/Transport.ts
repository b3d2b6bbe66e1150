/**
 * The transport service.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Peer } from "../session/Peer.js"

/**
 * The server could not listen; the message is a sentence for its operator.
 *
 * @category errors
 */
export class ListenError extends Data.TaggedError("ListenError")<{ readonly message: string }> {}
/**
 * The transport failed and accepts no further peer; the message is a sentence for the operator.
 *
 * @category errors
 */
export class TransportFailed extends Data.TaggedError("TransportFailed")<{ readonly message: string }> {}

/**
 * A source of peers.
 *
 * @category models
 */
export interface Shape {
  /** The address that clients connect to, in the form in which they write it. */
  readonly address: string
  /**
   * Serves every peer with the given effect, each in a fiber of its own, until there can be no further peer. When
   * interrupted, accepts no more, interrupts what serves the others and waits, bounded, until they are gone.
   */
  readonly run: <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) => Effect.Effect<void, TransportFailed, R>
}

/**
 * The transport of a server.
 *
 * @category tags
 */
export class Transport extends Context.Tag("exec-server/Transport")<Transport, Shape>() {}
