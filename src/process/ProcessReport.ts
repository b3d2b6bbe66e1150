/**
 * The results of `process/read` and `process/snapshot`, built from the retained output and the state of a process.
 *
 * @since 0.1.0
 */
import type { ReadResult, SnapshotResult, WaitResult } from "../protocol/ExecApi.js"
import type { RetainedOutput } from "./OutputBuffer.js"
import type { ExitReport } from "./ProcessState.js"

/** The state of a process, as clients see it. */
export interface Standing {
  readonly exited: boolean
  readonly exit: ExitReport
  readonly closed: boolean
  /** The number of the next event. */
  readonly nextSeq: number
  /** Why it could not be restarted. */
  readonly failure: string | null
  readonly sandboxDenied: boolean
  /** Whether its time limit has ended it. */
  readonly timedOut: boolean
  /** Whether the kernel has killed a process of its tree for lack of memory. */
  readonly oomKilled: boolean
}

/** What else is known of an exit: for clients that have not got the notification. */
export const causes = ({ exited, timedOut, oomKilled }: Standing): Pick<WaitResult, "timedOut" | "oomKilled"> =>
  exited ? { ...(timedOut ? { timedOut } : {}), ...(oomKilled ? { oomKilled } : {}) } : {}

/** Retained output after `afterSeq`, up to `maxBytes`. */
export const read = (output: RetainedOutput, standing: Standing, afterSeq: number, maxBytes: number): ReadResult => {
  const { chunks, cut } = output.select(afterSeq, maxBytes)
  const gap = output.gap()
  const last = chunks[chunks.length - 1]
  return {
    chunks,
    nextSeq: cut && last !== undefined ? last.seq + 1 : standing.nextSeq,
    exited: standing.exited,
    ...standing.exit,
    closed: standing.closed,
    failure: standing.failure,
    sandboxDenied: standing.sandboxDenied,
    ...causes(standing),
    truncated: gap !== undefined && gap.throughSeq > afterSeq,
    droppedBytes: gap?.bytes ?? 0,
    ...(gap === undefined ? {} : { gap })
  }
}

/** The omissions of each stream; only of streams that have some. */
const omitted = (output: RetainedOutput): NonNullable<SnapshotResult["omitted"]> => {
  const stdout = output.omission("stdout")
  const stderr = output.omission("stderr")
  const terminal = output.omission("pty")
  return {
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
    ...(terminal === undefined ? {} : { terminal })
  }
}

/** All retained output, and the exit if there was one. */
export const snapshot = (output: RetainedOutput, { exit, exited }: Standing): SnapshotResult => {
  const gap = output.gap()
  return {
    stdout: output.concat("stdout"),
    stderr: output.concat("stderr"),
    terminal: output.concat("pty"),
    truncated: gap !== undefined,
    droppedBytes: gap?.bytes ?? 0,
    ...(gap === undefined ? {} : { omitted: omitted(output) }),
    ...exit,
    running: !exited
  }
}
