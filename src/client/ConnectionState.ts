/**
 * The state machine of a client's connection.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { ClientError } from "./ClientError.js"
import type { Channel } from "./Connector.js"

/**
 * The state of the connection.
 *
 * @category models
 */
export type State = Data.TaggedEnum<{
  /** The first connection is being established. */
  Connecting: object
  /** Connected: requests are sent at once. */
  Connected: { readonly channel: Channel }
  /** The connection is lost and the client is reconnecting: requests wait. */
  Recovering: { readonly disconnect: ClientError }
  /** The connection has ended for good: requests fail. */
  Ended: { readonly error: ClientError }
}>
export const State = Data.taggedEnum<State>()

/**
 * The events that change the state.
 *
 * @category models
 */
export type Event = Data.TaggedEnum<{
  /** A connection is established and the handshake is complete. */
  Opened: { readonly channel: Channel }
  /** The connection was lost; `recoverable` says whether the client may reconnect. */
  Lost: { readonly error: ClientError; readonly recoverable: boolean }
  /** The client gave up reconnecting. */
  GaveUp: { readonly error: ClientError }
  /** The client was closed. */
  Closed: { readonly error: ClientError }
}>
export const Event = Data.taggedEnum<Event>()

/**
 * The transition function. An event that does not apply to a state leaves it unchanged.
 *
 * @category utilities
 */
export const transition = (state: State, event: Event): State => {
  switch (event._tag) {
    case "Opened":
      return state._tag === "Connecting" || state._tag === "Recovering"
        ? State.Connected({ channel: event.channel })
        : state
    case "Lost":
      if (state._tag !== "Connected") return state
      return event.recoverable ? State.Recovering({ disconnect: event.error }) : State.Ended({ error: event.error })
    case "GaveUp":
      return state._tag === "Connecting" || state._tag === "Recovering" ? State.Ended({ error: event.error }) : state
    case "Closed":
      return state._tag === "Ended" ? state : State.Ended({ error: event.error })
  }
}
