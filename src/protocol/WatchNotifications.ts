/**
 * The notifications of attachments, and of the events of all sessions (ours).
 *
 * @since 0.1.0
 */
import * as Rpc from "@effect/rpc/Rpc"
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { AttachmentAckParams } from "./Acknowledgements.js"
import { exitFields, OutputStream, TerminalSize } from "./ProcessSchemas.js"
import { Bytes, Cells, Count, Flag, Integer, nullOr, oneOf, optional, Seq, Text } from "./Schemas.js"
import { Viewer } from "./WatchApi.js"

const attachment = { attachmentId: Count }
const numbered = { ...attachment, seq: Seq }

/**
 * An event of the process of an attachment.
 *
 * @category schemas
 */
export const AttachmentEvent = Schema.Union(
  Schema.Struct({ ...numbered, type: Schema.Literal("exited"), ...exitFields, timedOut: optional(Flag) }),
  Schema.Struct({ ...numbered, type: Schema.Literal("restarted"), attempt: Count, pid: Integer }),
  Schema.Struct({ ...numbered, type: Schema.Literal("closed") })
)
export type AttachmentEvent = typeof AttachmentEvent.Type

const ofSession = { session: Text }
const ofProcess = { session: Text, processId: Text }
const ofViewer = { ...ofProcess, attachmentId: Count, name: Text, role: oneOf("viewer", "operator") }

/**
 * A change of a session, by its handle, of one of its processes, or of who watches one. `missed`: the client did not
 * read for so long that events were dropped; it should list again.
 *
 * @category schemas
 */
export const ConsoleEvent = Schema.Union(
  Schema.Struct({ type: Schema.Literal("session.opened"), ...ofSession }),
  Schema.Struct({ type: Schema.Literal("session.detached"), ...ofSession }),
  Schema.Struct({ type: Schema.Literal("session.resumed"), ...ofSession }),
  Schema.Struct({ type: Schema.Literal("session.ended"), ...ofSession }),
  Schema.Struct({ type: Schema.Literal("process.started"), ...ofProcess, pid: Integer }),
  Schema.Struct({ type: Schema.Literal("process.restarted"), ...ofProcess, pid: Integer, attempt: Count }),
  Schema.Struct({ type: Schema.Literal("process.exited"), ...ofProcess, ...exitFields }),
  Schema.Struct({ type: Schema.Literal("process.closed"), ...ofProcess }),
  Schema.Struct({ type: Schema.Literal("process.resized"), ...ofProcess, rows: Cells, cols: Cells }),
  Schema.Struct({ type: Schema.Literal("viewer.joined"), ...ofViewer }),
  Schema.Struct({ type: Schema.Literal("viewer.left"), ...ofViewer }),
  Schema.Struct({ type: Schema.Literal("missed"), events: Count })
)
export type ConsoleEvent = typeof ConsoleEvent.Type

/**
 * All notifications of watching. The client sends `attachment/ack`, the server the others. None of them is sent without
 * `process/attach` or `console/watch`.
 *
 * @category schemas
 */
export class WatchNotifications extends RpcGroup.make(
  /** From the client: it has shown everything up to `seq`. The first one starts the output. Unknown ids are ignored. */
  Rpc.make("attachment/ack", { payload: AttachmentAckParams }),
  /** The process has printed a chunk. Sent as far as the window of the attachment allows. */
  Rpc.make("attachment/output", { payload: Schema.Struct({ ...numbered, stream: OutputStream, chunk: Bytes }) }),
  /**
   * Output was skipped. The screen replaces everything that was shown; the output goes on after `seq`. Without a terminal,
   * or if there can be no screen, `screen` is null: what is shown has a gap.
   */
  Rpc.make("attachment/screen", {
    payload: Schema.Struct({
      ...numbered,
      size: nullOr(TerminalSize),
      screen: nullOr(Bytes),
      skippedBytes: Count
    })
  }),
  /** The terminal was resized: the output after `seq` was written for this size. `by` is the attachment, if one did. */
  Rpc.make("attachment/resized", {
    payload: Schema.Struct({ ...numbered, rows: Cells, cols: Cells, by: nullOr(Count) })
  }),
  /** The process has exited, was restarted, or is closed. */
  Rpc.make("attachment/event", { payload: AttachmentEvent }),
  /** Who watches the process has changed. */
  Rpc.make("attachment/viewers", { payload: Schema.Struct({ ...attachment, viewers: Schema.Array(Viewer) }) }),
  /** The attachment has ended. Nothing of it follows. */
  Rpc.make("attachment/ended", {
    payload: Schema.Struct({
      ...attachment,
      reason: oneOf("detached", "revoked", "expired", "released", "sessionEnded")
    })
  }),
  /** A session, a process or an attachment has changed. Sent only to connections that asked for it by `console/watch`. */
  Rpc.make("console/event", { payload: ConsoleEvent })
) {}
