/**
 * The events of processes, and the observers of them.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { ExitUsage } from "../spawn/ExitUsage.js"
import type { ExitReport } from "./ProcessState.js"

/** A process, as an observer of its events sees it. */
export interface EventSource {
  readonly processId: ProcessId
  /** The processId as JSON text, for messages that are assembled without a JSON encoder. */
  readonly idJson: string
  /** The processId encoded for binary frames; undefined if too long. */
  readonly frameId: Buffer | undefined
  /** Whether it has exited, probably because its sandbox denied something. */
  readonly sandboxDenied: boolean
  /** What it has used, once it has exited; undefined if that is not known. */
  readonly exitUsage?: ExitUsage | undefined
  /** Whether the kernel has killed a process of its tree for lack of memory. */
  readonly oomKilled?: boolean
  /** Stop and resume reading its output. */
  readonly pause: () => void
  readonly resume: () => void
}

/** An observer of process events, called synchronously. The bytes are only valid during the call. */
export interface ProcessEvents {
  readonly onStarted: (process: EventSource, pid: number) => void
  readonly onFailed: (processId: ProcessId, message: string) => void
  readonly onOutput: (process: EventSource, seq: number, stream: OutputStream, bytes: Buffer) => void
  readonly onRestarted: (process: EventSource, seq: number, attempt: number, pid: number) => void
  readonly onExited: (process: EventSource, seq: number, exit: ExitReport, timedOut: boolean) => void
  readonly onClosed: (process: EventSource, seq: number) => void
  /** The terminal has another size. Not told to the client, which has set it. */
  readonly onResized?: (process: EventSource, size: TerminalSize) => void
}
