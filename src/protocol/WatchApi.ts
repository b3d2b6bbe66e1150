/**
 * Watching processes and sessions (ours): attachments to a process, also to one of another session, and the events of
 * all sessions.
 *
 * An attachment belongs to its connection. It never slows the process down: a viewer that falls behind the retained
 * output skips it, and gets the screen instead.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { ClientId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { exitFields, processFields, TerminalSize } from "./ProcessSchemas.js"
import { Bytes, Count, Empty, Flag, maybe, nullOr, oneOf, Seq, Text } from "./Schemas.js"

/**
 * Where an attachment begins: with the screen as it is now and up to `scrollback` lines above it, after an event, or
 * with the next output.
 *
 * @category schemas
 */
export const AttachFrom = Schema.Union(
  Schema.Struct({ type: oneOf("screen"), scrollback: maybe(Count) }),
  Schema.Struct({ type: oneOf("seq"), afterSeq: Count }),
  Schema.Struct({ type: oneOf("live") })
).annotations({
  message: () => ({
    message: 'expected `{"type":"screen"}`, `{"type":"seq","afterSeq":<seq>}` or `{"type":"live"}`',
    override: true
  })
})
export type AttachFrom = typeof AttachFrom.Type

/**
 * One attachment, as those of the same process see it.
 *
 * @category schemas
 */
export const Viewer = Schema.Struct({
  attachmentId: Count,
  /** What its client calls itself. */
  name: Text,
  /** Whether it may also type. */
  role: oneOf("viewer", "operator"),
  /** The size of its own window, if it has told. */
  size: nullOr(TerminalSize),
  /** Whether it sets the size of the terminal. */
  drives: Flag
})
export type Viewer = typeof Viewer.Type

const attachment = { attachmentId: Count }

/**
 * All requests about watching.
 *
 * @category schemas
 */
export class WatchApi extends RpcGroup.make(
  /** Watches a process. Its output is sent once the client has sent the first `attachment/ack`. */
  request("process/attach", {
    family: "exec",
    access: "view",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({
      ...processFields,
      from: AttachFrom,
      /** How many bytes may be sent that are not acknowledged, from 16 KiB to 4 MiB. */
      window: Count,
      /** What others are told; the client's name by default. */
      name: maybe(ClientId),
      /** The size of the client's own window. */
      size: maybe(TerminalSize)
    }),
    success: Schema.Struct({
      ...attachment,
      role: oneOf("viewer", "operator"),
      /** What was known here; what is sent follows after it. */
      seq: Seq,
      /** The size for which the output after `seq` was written; null on pipes. */
      size: nullOr(TerminalSize),
      /** What a terminal that is empty shows the screen with; null unless asked for. */
      screen: nullOr(Bytes),
      title: nullOr(Text),
      /** Whether output after the start of the process, or after `afterSeq`, is lost. */
      truncated: Flag,
      exited: Flag,
      ...exitFields,
      closed: Flag,
      viewers: Schema.Array(Viewer)
    })
  }),
  /** Ends an attachment. */
  request("attachment/detach", {
    family: "exec",
    access: "view",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct(attachment),
    success: Empty
  }),
  /** The screen as it is now, without a change of what is sent. */
  request("attachment/screen", {
    family: "exec",
    access: "view",
    repeatable: "never",
    largeAnswer: true,
    answered: "late",
    payload: Schema.Struct({ ...attachment, scrollback: maybe(Count) }),
    success: Schema.Struct({
      seq: Seq,
      size: TerminalSize,
      screen: Bytes,
      title: nullOr(Text),
      truncated: Flag
    })
  }),
  /** Takes or leaves the size of a process with `sizePolicy: "driver"`. One attachment has it at a time. */
  request("attachment/drive", {
    family: "exec",
    access: "control",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ ...attachment, take: Flag, size: maybe(TerminalSize) }),
    success: Schema.Struct({ size: TerminalSize })
  }),
  /** Sends `console/event` for each change of the sessions that the grant may list, until the connection ends. */
  request("console/watch", {
    family: "session",
    access: "list",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: Empty
  })
) {}
