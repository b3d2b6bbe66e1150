/**
 * Observers of one process besides the client of its session: viewers and recordings. They are told of its events
 * synchronously, after that client.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ExitReport } from "./ProcessState.js"
import type { Mark } from "./ResizeMarks.js"

/** Why the output of a process can no longer be read: its time is over, or its session has ended. */
export type Release = "released" | "sessionEnded"

/** An observer of one process. The bytes are only valid during the call; nothing it does slows the process down. */
export interface ProcessObserver {
  readonly onOutput: (seq: number, stream: OutputStream, bytes: Buffer) => void
  /** Input was passed to the process. */
  readonly onInput?: (bytes: Buffer) => void
  readonly onResized: (mark: Mark) => void
  readonly onRestarted: (seq: number, attempt: number, pid: number) => void
  readonly onExited: (seq: number, exit: ExitReport, timedOut: boolean) => void
  readonly onClosed: (seq: number) => void
  /** The last call, right before the retained output is freed. */
  readonly onReleased: (reason: Release) => void
}
