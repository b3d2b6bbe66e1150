/**
 * The events of processes, and whoever is told of them.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { ExitReport } from "./ProcessState.js"

/** A process, as those who are told of its events know it. */
export interface EventSource {
  readonly processId: ProcessId
  /** The processId as JSON text, for messages that are put together by hand. */
  readonly idJson: string
  /** The processId as it stands in binary frames; undefined if it is too long to. */
  readonly frameId: Buffer | undefined
  /** Whether it has exited, and its restrictions are the likely cause. */
  readonly sandboxDenied: boolean
  /** Stops, or goes on with, reading its output. */
  readonly pause: () => void
  readonly resume: () => void
}

/** Whoever is told of a process's events, as they happen. The bytes are only valid during the call. */
export interface ProcessEvents {
  readonly onStarted: (process: EventSource, pid: number) => void
  readonly onFailed: (processId: ProcessId, message: string) => void
  readonly onOutput: (process: EventSource, seq: number, stream: OutputStream, bytes: Buffer) => void
  readonly onRestarted: (process: EventSource, seq: number, attempt: number, pid: number) => void
  readonly onExited: (process: EventSource, seq: number, exit: ExitReport, timedOut: boolean) => void
  readonly onClosed: (process: EventSource, seq: number) => void
}
