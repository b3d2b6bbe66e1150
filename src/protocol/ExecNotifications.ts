/**
 * Every notification of the protocol.
 *
 * @since 0.1.0
 */
import * as Rpc from "@effect/rpc/Rpc"
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { AckParams } from "./Acknowledgements.js"
import { HttpBodyDelta } from "./HttpApi.js"
import { ProcessId } from "./Ids.js"
import { exitFields, OutputStream } from "./ProcessSchemas.js"
import { Bytes, Count, Empty, Flag, Integer, optional, Seq, Text, withFallback } from "./Schemas.js"
import { ExitUsage } from "./StartLimits.js"
import { UsageSample } from "./UsageApi.js"
import { WatchNotifications } from "./WatchNotifications.js"

/**
 * All notifications. The client sends `initialized`, `process/ack` and `attachment/ack`; the server sends the others. The output, exit and close of one
 * process share one counter: `seq` starts at 1 and has no gaps, and `process/closed` has the last number.
 *
 * @category schemas
 */
export class ExecNotifications extends RpcGroup.make(
  /** The client is ready to receive notifications. The server ignores the parameters. */
  Rpc.make("initialized", { payload: Empty }),
  /**
   * From a client with `capabilities.outputWindow` (ours): it has consumed the output of the process up to `seq`. Numbers
   * may be skipped or repeated. Unknown processes are ignored.
   */
  Rpc.make("process/ack", { payload: AckParams }),
  /** The process has printed a chunk: bytes as they came, which may end within a character. */
  Rpc.make("process/output", {
    payload: Schema.Struct({ processId: ProcessId, seq: Seq, stream: OutputStream, chunk: Bytes })
  }),
  /** The leader was reaped. Output may still follow. */
  Rpc.make("process/exited", {
    payload: Schema.Struct({
      processId: ProcessId,
      seq: Seq,
      ...exitFields,
      sandboxDenied: withFallback(Flag, () => false),
      /** True if `timeoutMs` ran out, otherwise absent (ours). */
      timedOut: optional(Flag),
      /** With `capabilities.exitUsage` (ours): what it has used; absent if that is not known. */
      usage: optional(ExitUsage),
      /**
       * With `capabilities.exitUsage` (ours): true if the kernel has killed a process of its tree for lack of memory,
       * otherwise absent.
       */
      oomKilled: optional(Flag)
    })
  }),
  /** The leader was reaped and every byte of output was read. Nothing follows. */
  Rpc.make("process/closed", { payload: Schema.Struct({ processId: ProcessId, seq: Seq }) }),
  /**
   * The process was restarted for the `attempt`th time (ours). `exited` and `closed` are sent for the final end only.
   */
  Rpc.make("process/restarted", {
    payload: Schema.Struct({ processId: ProcessId, seq: Seq, attempt: Count, pid: Integer })
  }),
  /** With `capabilities.lifecycle` (ours): the process runs. */
  Rpc.make("process/started", { payload: Schema.Struct({ processId: ProcessId, pid: Integer }) }),
  /** With `capabilities.lifecycle` (ours): the process could not be started. */
  Rpc.make("process/failed", { payload: Schema.Struct({ processId: ProcessId, message: Text }) }),
  /** A path of `fs/watchMissing` changed (current). This ends the watch. */
  Rpc.make("fs/missingChanged", { payload: Schema.Struct({ watchId: Count }) }),
  /** What processes use (ours). Sent only to connections that asked for it by `usage/watch`. */
  Rpc.make("usage/sample", { payload: UsageSample }),
  /** A piece of a streamed HTTP body; the last one has `done`. Sent only to the connection that made the request. */
  Rpc.make("http/request/bodyDelta", { payload: HttpBodyDelta })
).merge(WatchNotifications) {}

type Notifications = RpcGroup.Rpcs<typeof ExecNotifications>

/**
 * The name of a notification.
 *
 * @category models
 */
export type NotificationMethod = Notifications["_tag"]

type Encoded<R> =
  R extends Rpc.Rpc<infer _Tag, infer Payload, infer _Success, infer _Error, infer _Middleware>
    ? Schema.Schema.Encoded<Payload>
    : never

/**
 * The parameters of a notification, as JSON.
 *
 * @category models
 */
export type NotificationJson<M extends NotificationMethod> = Encoded<Rpc.ExtractTag<Notifications, M>>
