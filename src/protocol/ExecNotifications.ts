/**
 * Every notification of the protocol.
 *
 * @since 0.1.0
 */
import * as Rpc from "@effect/rpc/Rpc"
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { exitFields, OutputStream } from "./ExecApi.js"
import { HttpBodyDelta } from "./HttpApi.js"
import { ProcessId } from "./Ids.js"
import { Bytes, Count, Flag, Integer, ifTold, Text } from "./Schemas.js"

/**
 * All notifications. `initialized` comes from the client, the others from the server. Output, exit and close of one
 * process share one counter: `seq` starts at 1, has no gaps, and `closed` is the last.
 */
export class ExecNotifications extends RpcGroup.make(
  /** The client is ready for notifications; its content is ignored. */
  Rpc.make("initialized", { payload: Schema.Struct({}) }),
  Rpc.make("process/output", {
    payload: Schema.Struct({ processId: ProcessId, seq: Count, stream: OutputStream, chunk: Bytes })
  }),
  /** The leader was reaped. Output may still follow. */
  Rpc.make("process/exited", {
    payload: Schema.Struct({
      processId: ProcessId,
      seq: Count,
      /** The status, or 128 + the signal's number; null if the system could not tell. */
      ...exitFields,
      sandboxDenied: ifTold(Flag, () => false),
      /** Present, and true, when `timeoutMs` ran out (ours). */
      timedOut: Schema.optional(Flag)
    })
  }),
  /** The leader was reaped and every byte of output was read. Nothing follows. */
  Rpc.make("process/closed", { payload: Schema.Struct({ processId: ProcessId, seq: Count }) }),
  /** Started again under its restart policy (ours), for the `attempt`th time: `exited` and `closed` tell the last end. */
  Rpc.make("process/restarted", {
    payload: Schema.Struct({ processId: ProcessId, seq: Count, attempt: Count, pid: Integer })
  }),
  /** With `capabilities.lifecycle` (ours): the process runs. */
  Rpc.make("process/started", { payload: Schema.Struct({ processId: ProcessId, pid: Integer }) }),
  /** With `capabilities.lifecycle` (ours): the process could not be started. */
  Rpc.make("process/failed", { payload: Schema.Struct({ processId: ProcessId, message: Text }) }),
  /** Something has changed about the paths of a `fs/watchMissing` (now), which is over with this. */
  Rpc.make("fs/missingChanged", { payload: Schema.Struct({ watchId: Count }) }),
  /** A piece of a streamed HTTP body; the last one has `done`. Goes to the connection that asked, and ends with it. */
  Rpc.make("http/request/bodyDelta", { payload: HttpBodyDelta })
) {}

type Notifications = RpcGroup.Rpcs<typeof ExecNotifications>

/** The name of a notification. */
export type NotificationMethod = Notifications["_tag"]

type Encoded<R> =
  R extends Rpc.Rpc<infer _Tag, infer Payload, infer _Success, infer _Error, infer _Middleware>
    ? Schema.Schema.Encoded<Payload>
    : never

/** What a notification carries, as JSON. */
export type NotificationJson<M extends NotificationMethod> = Encoded<Rpc.ExtractTag<Notifications, M>>
