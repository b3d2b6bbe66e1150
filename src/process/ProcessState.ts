/**
 * The states of a process and the transitions between them. Apart from restarts, they only move forward.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { Child, ExitStatus } from "../spawn/Child.js"

/**
 * The state of a process. `Failed`: it could not be started. `Restarting`: the leader was reaped, and another one will
 * be started. `Exited`: the last leader was reaped. `Closed`: exited, and all output was read.
 */
export type State = Data.TaggedEnum<{
  Starting: object
  Failed: object
  Running: { readonly child: Child; readonly outputEnded: boolean }
  Restarting: { readonly child: Child; readonly status: ExitStatus; readonly outputEnded: boolean }
  Exited: { readonly child: Child; readonly status: ExitStatus }
  Closed: { readonly child: Child; readonly status: ExitStatus }
}>
export const State = Data.taggedEnum<State>()

/** The causes of transitions. */
export type Event = Data.TaggedEnum<{
  Spawned: { readonly child: Child }
  SpawnFailed: object
  LeaderReaped: { readonly status: ExitStatus; readonly restart: boolean }
  OutputEnded: object
  RestartAbandoned: object
}>
export const Event = Data.taggedEnum<Event>()

const ended = (
  { child, outputEnded }: { readonly child: Child; readonly outputEnded: boolean },
  status: ExitStatus
): State => (outputEnded ? State.Closed({ child, status }) : State.Exited({ child, status }))

/** All transitions. An event that does not apply to a state leaves it unchanged. */
export const transition = (state: State, event: Event): State => {
  switch (state._tag) {
    case "Starting":
      if (event._tag === "SpawnFailed") return State.Failed()
      return event._tag === "Spawned" ? State.Running({ child: event.child, outputEnded: false }) : state
    case "Running":
      if (event._tag === "OutputEnded") return State.Running({ child: state.child, outputEnded: true })
      if (event._tag !== "LeaderReaped") return state
      return event.restart ? State.Restarting({ ...state, status: event.status }) : ended(state, event.status)
    case "Restarting":
      if (event._tag === "OutputEnded") return State.Restarting({ ...state, outputEnded: true })
      if (event._tag === "RestartAbandoned") return ended(state, state.status)
      return event._tag === "Spawned" ? State.Running({ child: event.child, outputEnded: false }) : state
    case "Exited":
      return event._tag === "OutputEnded" ? State.Closed({ child: state.child, status: state.status }) : state
    case "Closed":
    case "Failed":
      return state
  }
}

/** How the leader ended, as reported to clients. Nulls while it runs, and if the system did not report it. */
export interface ExitReport {
  readonly exitCode: number | null
  readonly signal: string | null
}

/** The report of a running leader. */
export const stillRunning: ExitReport = { exitCode: null, signal: null }

/** The report of a leader's exit. */
export const reportOf = (status: ExitStatus): ExitReport => {
  switch (status._tag) {
    case "Exited":
      return { exitCode: status.code, signal: null }
    case "Signaled":
      return { exitCode: 128 + status.number, signal: status.signal }
    case "Lost":
      return stillRunning
  }
}
