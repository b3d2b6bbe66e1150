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
 * The server could not listen. The message is a sentence for the operator.
 *
 * @category errors
 */
export class ListenError extends Data.TaggedError("ListenError")<{ readonly message: string }> {}
/**
 * The transport failed and accepts no more peers. The message is a sentence for the operator.
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
  /** The address that clients connect to, in the notation they use. */
  readonly address: string
  /**
   * Serves every peer with the given effect, each in its own fiber, until no peer can come any more. When interrupted,
   * stops accepting, interrupts the serving effects and waits, bounded, until their peers are gone.
   */
  readonly run: <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) => Effect.Effect<void, TransportFailed, R>
}

/**
 * The transport of a server.
 *
 * @category tags
 */
export class Transport extends Context.Tag("exec-server/Transport")<Transport, Shape>() {}
