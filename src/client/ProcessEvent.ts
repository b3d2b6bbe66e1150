/**
 * What a client learns of one process.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { OutputStream } from "../protocol/ExecApi.js"

/** How a process ended. */
export interface Exit {
  /** The status, or 128 + the signal's number; null if the system could not tell. */
  readonly exitCode: number | null
  /** The name of the signal that ended it. */
  readonly signal: string | null
  readonly sandboxDenied: boolean
  /** Whether `timeoutMs` ran out; undefined where the exit was only learnt of after a lost connection. */
  readonly timedOut: boolean | undefined
}

/**
 * One event. Output, restarts, exit and close of a process share one counter: `seq` starts at 1, has no gaps, and `Closed` is the
 * last. Between `Exited` and `Closed` output may come.
 */
export type ProcessEvent = Data.TaggedEnum<{
  Output: { readonly seq: number; readonly stream: OutputStream; readonly chunk: Buffer }
  /** It ended by itself and was started again; its output goes on in the same count. */
  Restarted: { readonly seq: number; readonly attempt: number; readonly pid: number }
  /** The leader was reaped, for the last time. */
  Exited: Exit & { readonly seq: number }
  /** Every byte of output was read. */
  Closed: { readonly seq: number }
  /**
   * This reader was so slow that something is gone: of the events from `fromSeq` through `throughSeq`, those that do not
   * follow. They held `bytes` of output.
   */
  Missed: {
    readonly fromSeq: number
    readonly throughSeq: number
    readonly events: number
    readonly bytes: number
  }
}>
export const ProcessEvent = Data.taggedEnum<ProcessEvent>()

/** One that the server numbered. */
export type Numbered = Exclude<ProcessEvent, { readonly _tag: "Missed" }>

/** Bytes of output in an event. */
export const lengthOf = (event: Numbered): number => (event._tag === "Output" ? event.chunk.length : 0)
