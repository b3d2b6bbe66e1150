/**
 * Recordings of what processes print (ours): asciicast files of the server.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { RecordingId, SessionHandle } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { processFields } from "./ProcessSchemas.js"
import { Bytes, Count, Empty, Flag, Integer, maybe, nullOr, Text, TextList } from "./Schemas.js"

/**
 * How to record a process.
 *
 * @category schemas
 */
export const RecordOptions = Schema.Struct({
  /** Record input too, passwords included; false by default. */
  input: maybe(Flag),
  /** The most bytes of the file, up to `maxRecordingBytes`, which is the default. */
  maxBytes: maybe(Count)
})
export type RecordOptions = typeof RecordOptions.Type

/**
 * One recording in the result of `recording/list`.
 *
 * @category schemas
 */
export const RecordingInfo = Schema.Struct({
  recordingId: Text,
  /** The handle of the session of its process. */
  session: Text,
  processId: Text,
  argv: TextList,
  /** In milliseconds since 1970. */
  startedAtMs: Integer,
  durationMs: Count,
  /** The size of its file. */
  bytes: Count,
  /** Whether it is still recording. */
  running: Flag,
  /** Whether it ended because a limit was reached. */
  truncated: Flag,
  /** Why it could not be written to its end; null if it could. */
  failure: nullOr(Text)
})
export type RecordingInfo = typeof RecordingInfo.Type

/** An existing recording. */
const recordingFields = { recordingId: RecordingId }

/**
 * Requests about recordings.
 *
 * @category schemas
 */
export class RecordingApi extends RpcGroup.make(
  /** Begins to record a process: first its retained output, then what it prints. */
  request("recording/start", {
    family: "exec",
    access: "manage",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...processFields, ...RecordOptions.fields }),
    success: Schema.Struct({ recordingId: Text })
  }),
  /** Ends a recording. Succeeds for one that has ended. */
  request("recording/stop", {
    family: "exec",
    access: "manage",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(recordingFields),
    success: Schema.Struct({ bytes: Count, durationMs: Count })
  }),
  /** Lists the recordings of a session, or with `session: "*"` all visible ones, oldest first. */
  request("recording/list", {
    family: "exec",
    access: "list",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct({ session: maybe(SessionHandle) }),
    success: Schema.Struct({ recordings: Schema.Array(RecordingInfo) })
  }),
  /** Reads bytes of the file of a recording; none at its end. */
  request("recording/read", {
    family: "exec",
    access: "list",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct({ ...recordingFields, offset: Count, maxBytes: maybe(Count) }),
    success: Schema.Struct({ chunk: Bytes, size: Count, running: Flag })
  }),
  /** Ends a recording and removes its file. */
  request("recording/remove", {
    family: "exec",
    access: "manage",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct(recordingFields),
    success: Empty
  })
) {}
