/**
 * The events of a process.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ExitUsage } from "../protocol/StartLimits.js"

/**
 * How a process ended.
 *
 * @category models
 */
export interface Exit {
  /** The status, or 128 + the signal's number; null if the system could not tell. */
  readonly exitCode: number | null
  /** The name of the signal that ended it. */
  readonly signal: string | null
  readonly sandboxDenied: boolean
  /** Whether `timeoutMs` ran out; if the notification was lost with a connection, undefined unless it did. */
  readonly timedOut: boolean | undefined
  /** What it has used; undefined without `capabilities.exitUsage`, and if the notification was lost. */
  readonly usage?: ExitUsage | undefined
  /** True if the kernel has killed a process of its tree for lack of memory; otherwise undefined. */
  readonly oomKilled?: boolean | undefined
}

/**
 * An event. Output, restarts, exit and close of a process share one counter: `seq` starts at 1 and has no gaps;
 * `Closed` is the last. Output may follow `Exited`.
 *
 * @category models
 */
export type ProcessEvent = Data.TaggedEnum<{
  Output: { readonly seq: number; readonly stream: OutputStream; readonly chunk: Buffer }
  /** Restarted by its restart policy; fields are undefined if the notification was lost with a connection. */
  Restarted: { readonly seq: number; readonly attempt: number | undefined; readonly pid: number | undefined }
  /** The leader was reaped. */
  Exited: Exit & { readonly seq: number }
  /** The process has exited and all output was read. */
  Closed: { readonly seq: number }
  /**
   * The reader was too slow: some events from `fromSeq` through `throughSeq`, with `bytes` of output, are lost. The
   * others of this range follow.
   */
  Missed: {
    readonly fromSeq: number
    readonly throughSeq: number
    readonly events: number
    readonly bytes: number
  }
}>
export const ProcessEvent = Data.taggedEnum<ProcessEvent>()

/**
 * An event with a `seq` of the server.
 *
 * @category models
 */
export type Numbered = Exclude<ProcessEvent, { readonly _tag: "Missed" }>

/**
 * The bytes of output in an event.
 *
 * @category utilities
 */
export const lengthOf = (event: Numbered): number => (event._tag === "Output" ? event.chunk.length : 0)
