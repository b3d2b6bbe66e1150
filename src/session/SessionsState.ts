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

/** A recording in progress. */
export const RecordingState = Schema.Struct({
  recordingId: Schema.String,
  session: Schema.String,
  processId: Schema.String,
  argv: Schema.Array(Schema.String),
  startedAtMs: Schema.Number,
  owner: Schema.String,
  subject: Schema.String,
  input: Schema.Boolean,
  maxBytes: Schema.Number,
  term: Schema.optional(Schema.String),
  /** The bytes of the file that are certainly there. */
  bytes: Schema.Number,
  /** The lines that were being written after these. */
  writing: Schema.optionalWith(Schema.String, { default: () => "" }),
  /** The first line, if it was not written. */
  head: Schema.optional(Schema.String),
  pending: Schema.Array(
    Schema.Struct({
      atMs: Schema.Number,
      code: Schema.Literal("o", "i", "r", "m", "x"),
      data: Schema.String
    })
  ),
  lastAtMs: Schema.Number,
  /** The first bytes of a character, in base64. */
  partial: Schema.Array(
    Schema.Struct({ stream: Schema.Literal("stdout", "stderr", "pty", "input"), bytes: Schema.String })
  ),
  exit: Schema.optional(
    Schema.Struct({ exitCode: Schema.NullOr(Schema.Number), signal: Schema.NullOr(Schema.String) })
  ),
  truncated: Schema.Boolean,
  /** When it was stopped; what is pending is still written. */
  stoppedAtMs: Schema.optional(Schema.Number)
})
export type RecordingState = typeof RecordingState.Type

/** The recordings of sessions. */
export const RecordingsState = Schema.Struct({
  active: Schema.Array(RecordingState),
  /** Those that have ended. */
  ended: Schema.optionalWith(
    Schema.Array(
      Schema.Struct({
        owner: Schema.String,
        subject: Schema.String,
        durationMs: Schema.Number,
        truncated: Schema.Boolean,
        failure: Schema.NullOr(Schema.String),
        recordingId: Schema.String
      })
    ),
    { default: () => [] }
  )
})
export type RecordingsState = typeof RecordingsState.Type

/** A share. */
export const ShareState = Schema.Struct({
  shareId: Schema.String,
  /** The hash of its token, in base64. */
  hash: Schema.String,
  session: Schema.String,
  processId: Schema.String,
  role: Schema.Literal("viewer", "operator"),
  expiresAtMs: Schema.Number,
  /** Null: any number. */
  maxViewers: Schema.NullOr(Schema.Number),
  label: Schema.NullOr(Schema.String)
})
export type ShareState = typeof ShareState.Type

/** What belongs to sessions and is kept elsewhere. */
export const PartsState = Schema.Struct({
  recordings: Schema.optional(RecordingsState),
  shares: Schema.optional(Schema.Array(ShareState))
})
export type PartsState = typeof PartsState.Type

/** All sessions of a server. */
export const SessionsState = Schema.Struct({
  /** The monotonic time of the machine, in milliseconds. */
  frozenAtMs: Schema.Number,
  /** Absent if the spawner cannot hand children over: then there are none. */
  spawner: Schema.optional(SpawnerState),
  /** Oldest first. */
  sessions: Schema.Array(SessionState),
  parts: Schema.optionalWith(PartsState, { default: () => ({}) })
})
export type SessionsState = typeof SessionsState.Type
