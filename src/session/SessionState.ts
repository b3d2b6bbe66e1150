/**
 * The states of a session and the transitions between them.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { Notifier } from "./Notifier.js"

/** The state of a session. `Attached` has a notifier once the client has sent `initialized`. */
export type State = Data.TaggedEnum<{
  Attached: { readonly notifier: Notifier | undefined }
  Detached: object
  Ended: object
}>
export const State = Data.taggedEnum<State>()

/** The causes of transitions. */
export type Event = Data.TaggedEnum<{
  ClientReady: { readonly notifier: Notifier }
  ConnectionLost: object
  Resumed: object
  Ended: object
}>
export const Event = Data.taggedEnum<Event>()

/** All transitions. An event that does not apply to a state leaves it unchanged. */
export const transition = (state: State, event: Event): State => {
  switch (event._tag) {
    case "ClientReady":
      return state._tag === "Attached" ? State.Attached({ notifier: event.notifier }) : state
    case "ConnectionLost":
      return state._tag === "Attached" ? State.Detached() : state
    case "Resumed":
      return state._tag === "Detached" ? State.Attached({ notifier: undefined }) : state
    case "Ended":
      return State.Ended()
  }
}
