/**
 * Where a client's connection stands, and every way it can go on from there.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { ClientError } from "./ClientError.js"
import type { Channel } from "./Connector.js"

/** Where the connection stands. */
export type State = Data.TaggedEnum<{
  /** The first connection is being made. */
  Connecting: object
  /** Requests are sent as they come. */
  Connected: { readonly channel: Channel }
  /** The connection is lost and another one is being made: requests wait. */
  Recovering: { readonly disconnect: ClientError }
  /** There is no connection and will be none: requests fail. */
  Ended: { readonly error: ClientError }
}>
export const State = Data.taggedEnum<State>()

/** What moves it. */
export type Event = Data.TaggedEnum<{
  /** A connection is there and the server has taken the client in. */
  Opened: { readonly channel: Channel }
  /** The connection is gone; `recoverable` says whether another one could follow. */
  Lost: { readonly error: ClientError; readonly recoverable: boolean }
  /** No further attempt is made. */
  GaveUp: { readonly error: ClientError }
  /** The client itself has ended. */
  Closed: { readonly error: ClientError }
}>
export const Event = Data.taggedEnum<Event>()

/** Every transition there is. An event that has no place in a state leaves it as it is. */
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
