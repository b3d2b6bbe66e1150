/**
 * The types of the protocol as they travel: JSON, with bytes as base64. Only types: none of the schemas is in the page.
 *
 * @since 0.1.0
 */
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import type * as Schema from "effect/Schema"
import type * as ExecApi from "../protocol/ExecApi.js"
import type * as RecordingApi from "../protocol/RecordingApi.js"
import type * as ShareApi from "../protocol/ShareApi.js"
import type * as UsageApi from "../protocol/UsageApi.js"
import type * as WatchApi from "../protocol/WatchApi.js"
import type * as WatchNotifications from "../protocol/WatchNotifications.js"

type Request = RpcGroup.Rpcs<typeof ExecApi.ExecApi>

/** The name of a request. */
export type Method = Request["_tag"]

type Of<M extends Method> = Extract<Request, { readonly _tag: M }>

/** The parameters of a request. */
export type Params<M extends Method> = Schema.Schema.Encoded<Of<M>["payloadSchema"]>

/** The result of a request. */
export type Result<M extends Method> = Schema.Schema.Encoded<Of<M>["successSchema"]>

/** One process in a list. */
export type ProcessInfo = typeof ExecApi.ProcessInfo.Encoded

/** One session in a list. */
export type SessionInfo = typeof ExecApi.SessionInfo.Encoded

/** What the token of the connection permits. */
export type GrantInfo = typeof ExecApi.GrantInfo.Encoded

/** The machine of the server. */
export type EnvironmentInfo = typeof ExecApi.EnvironmentInfo.Encoded

/** One recording in a list. */
export type RecordingInfo = typeof RecordingApi.RecordingInfo.Encoded

/** One share in a list. */
export type ShareInfo = typeof ShareApi.ShareInfo.Encoded

/** What the server and its processes use at one time. */
export type UsageSample = typeof UsageApi.UsageSample.Encoded

/** Somebody who watches a process. */
export type Viewer = typeof WatchApi.Viewer.Encoded

/** A change of a session, of a process, or of who watches one. */
export type ConsoleEvent = typeof WatchNotifications.ConsoleEvent.Encoded

/** The notifications that the page reads, by method. */
export interface Notifications {
  readonly "process/exited": Exit & Numbered
  readonly "process/closed": Numbered
  readonly "process/restarted": Numbered & { readonly attempt: number; readonly pid: number }
  readonly "attachment/screen": Attached & {
    readonly size: Size | null
    readonly screen: string | null
    readonly skippedBytes: number
  }
  readonly "attachment/resized": Attached & Size & { readonly by: number | null }
  readonly "attachment/event": typeof WatchNotifications.AttachmentEvent.Encoded
  readonly "attachment/viewers": { readonly attachmentId: number; readonly viewers: ReadonlyArray<Viewer> }
  readonly "attachment/ended": { readonly attachmentId: number; readonly reason: EndReason }
  readonly "console/event": ConsoleEvent
  readonly "usage/sample": UsageSample
}

/** Why an attachment has ended. */
export type EndReason = "detached" | "revoked" | "expired" | "released" | "sessionEnded"

/** The size of a terminal in cells. */
export interface Size {
  readonly rows: number
  readonly cols: number
}

/** How a process has exited. */
export interface Exit {
  readonly exitCode: number | null
  readonly signal?: string | null | undefined
  readonly timedOut?: boolean | undefined
  readonly sandboxDenied?: boolean | undefined
}

interface Numbered {
  readonly processId: string
  readonly seq: number
}

interface Attached {
  readonly attachmentId: number
  readonly seq: number
}
