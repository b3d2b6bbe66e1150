/**
 * The state of all sessions, as one version of the server hands it to another. Members that a version does not know are
 * ignored, and those that it adds have a default.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { SupervisorState } from "../process/ProcessImage.js"
import { SpawnerState } from "../spawn/ChildState.js"

/** One session. */
export const SessionState = Schema.Struct({
  id: Schema.String,
  handle: Schema.String,
  clientName: Schema.String,
  openedAtMs: Schema.Number,
  subject: Schema.String,
  /** The name of the peer of its last connection. */
  peer: Schema.String,
  name: Schema.optional(Schema.String),
  /** The `sessionTtlMs` that its client requested; null is infinite. */
  ttlMs: Schema.optional(Schema.NullOr(Schema.Number)),
  /** Whether its client was connected: it is detached by the upgrade. */
  attached: Schema.Boolean,
  /** Whether it waits to be resumed; otherwise it ends. */
  resumable: Schema.optionalWith(Schema.Boolean, { default: () => true }),
  /** What was left until it expires, in milliseconds; null is infinite. Of a detached session. */
  leftMs: Schema.optional(Schema.NullOr(Schema.Number)),
  supervisor: SupervisorState
})
export type SessionState = typeof SessionState.Type

/** All sessions of a server. */
export const SessionsState = Schema.Struct({
  /** The monotonic time of the machine, in milliseconds. */
  frozenAtMs: Schema.Number,
  /** Absent if the spawner cannot hand children over: then there are none. */
  spawner: Schema.optional(SpawnerState),
  /** Oldest first. */
  sessions: Schema.Array(SessionState),
  /** What belongs to sessions, by name: each part decodes its own state. */
  parts: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.Unknown }), { default: () => ({}) })
})
export type SessionsState = typeof SessionsState.Type
