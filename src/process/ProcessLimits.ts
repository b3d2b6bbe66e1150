/**
 * What bounds processes. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of one server's processes; bytes, milliseconds and counts. */
export interface Limits {
  /** Processes of one session that are not closed. */
  readonly maxProcessesPerSession: number
  /** What is kept of output beyond the limits: the newest, or the beginning and the end without the middle. */
  readonly retain: "tail" | "head-tail"
  /** Output kept of one process; whole chunks give way. */
  readonly retainedOutputBytesPerProcess: number
  /** Output kept of all processes; beyond it the oldest closed ones give way first. */
  readonly retainedOutputBytesTotal: number
  /** Input that waits for one child; then a write waits. */
  readonly stdinQueueBytesPerProcess: number
  /** What is kept for the processes of one session besides output: ids, arguments, input that waits. */
  readonly processBytesPerSession: number
  /** The same for all sessions; each has 256 KiB in any case. */
  readonly processBytesTotal: number
  /** How long a closed process can still be read, and its id is taken. */
  readonly closedProcessRetentionMs: number
  /** How long processes have between SIGTERM and SIGKILL when the server ends. */
  readonly shutdownGracePeriodMs: number
  /** Whether plain requests may start processes. */
  readonly allowDirectExec: boolean
  /** Whether requests marked `prepared` may start processes. */
  readonly allowPreparedExec: boolean
}

/** The limits that hold where no others are provided. */
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
  allowPreparedExec: true
}

/** The limits in force. */
export class ProcessLimits extends Context.Reference<ProcessLimits>()("exec-server/ProcessLimits", {
  defaultValue: () => defaults
}) {}
