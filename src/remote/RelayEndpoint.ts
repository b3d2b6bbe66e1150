/**
 * The rendezvous address of an executor's relay socket.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"

/** There is no address. The message is a sentence for the operator. */
export class EndpointError extends Data.TaggedError("EndpointError")<{
  readonly message: string
  /** Whether another attempt may succeed without other changes. */
  readonly retryable: boolean
  /** The HTTP status of a refusal. */
  readonly status?: number
}> {}

/** A source of addresses. */
export interface Shape {
  /** The WebSocket URL of the rendezvous. Evaluated before every connection attempt; it may differ each time. */
  readonly url: Effect.Effect<string, EndpointError>
}

/** The rendezvous of an executor. */
export class RelayEndpoint extends Context.Tag("exec-server/RelayEndpoint")<RelayEndpoint, Shape>() {}
