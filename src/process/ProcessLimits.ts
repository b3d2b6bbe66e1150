/**
 * Limits of processes. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of one server's processes; bytes, milliseconds and counts. */
export interface Limits {
  /** Processes of one session that are not closed. */
  readonly maxProcessesPerSession: number
  /** Which output is retained when limits are exceeded: the newest, or the beginning and the end. */
  readonly retain: "tail" | "head-tail"
  /** Retained output of one process. Whole chunks are dropped. */
  readonly retainedOutputBytesPerProcess: number
  /** Retained output of all processes. Beyond it, output of the processes that closed first is dropped first. */
  readonly retainedOutputBytesTotal: number
  /** Input queued for one child; beyond it, writes wait. */
  readonly stdinQueueBytesPerProcess: number
  /** Memory of one session's processes besides output: ids, arguments, queued input. */
  readonly processBytesPerSession: number
  /** The same for all sessions together; each has 256 KiB in any case. */
  readonly processBytesTotal: number
  /** How long a closed process can still be read; its id cannot be reused until then. */
  readonly closedProcessRetentionMs: number
  /** The time between SIGTERM and SIGKILL when the server shuts down. */
  readonly shutdownGracePeriodMs: number
  /** Whether plain requests may start processes. */
  readonly allowDirectExec: boolean
  /** Whether requests marked `prepared` may start processes. */
  readonly allowPreparedExec: boolean
  /** Limits of processes whose start does not ask for others, as words of `LimitWords`. */
  readonly defaultLimits: ReadonlyArray<string>
  /** The most that a start may ask for, likewise. Processes that ask for nothing get these, or the defaults. */
  readonly maxLimits: ReadonlyArray<string>
}

/** The default limits. */
export const defaults: Limits = {
  maxProcessesPerSession: 1024,
  retain: "tail",
  retainedOutputBytesPerProcess: 1048576,
  retainedOutputBytesTotal: 268435456,
  stdinQueueBytesPerProcess: 4194304,
  processBytesPerSession: 67108864,
  processBytesTotal: 268435456,
  closedProcessRetentionMs: 30000,
  shutdownGracePeriodMs: 2000,
  allowDirectExec: true,
  allowPreparedExec: true,
  defaultLimits: [],
  maxLimits: []
}

/** The limits in force. */
export class ProcessLimits extends Context.Reference<ProcessLimits>()("exec-server/ProcessLimits", {
  defaultValue: () => defaults
}) {}
