/**
 * Where an executor's relay socket goes.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"

/** There is no address; the message is a sentence for the operator. */
export class EndpointError extends Data.TaggedError("EndpointError")<{
  readonly message: string
  /** Whether another attempt could succeed although nothing else changes. */
  readonly retryable: boolean
}> {}

/** A source of addresses. */
export interface Shape {
  /** The WebSocket URL of the rendezvous, asked for before every attempt to connect; it may differ each time. */
  readonly url: Effect.Effect<string, EndpointError>
}

/** The rendezvous of an executor. */
export class RelayEndpoint extends Context.Tag("exec-server/RelayEndpoint")<RelayEndpoint, Shape>() {}
