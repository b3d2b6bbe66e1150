/**
 * What a viewer of a process sees.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Data from "effect/Data"
import type { OutputStream, TerminalSize } from "../protocol/ExecApi.js"
import type { NotificationParams, Result } from "./Api.js"

/**
 * Why an attachment has ended.
 *
 * @category models
 */
export type EndReason = NotificationParams<"attachment/ended">["reason"]

/**
 * One attachment among those of a process.
 *
 * @category models
 */
export type Viewer = Result<"process/attach">["viewers"][number]

/**
 * An event. `seq` is that of the process's events; the output after an event follows it.
 *
 * @category models
 */
export type WatchEvent = Data.TaggedEnum<{
  /** The first event. `size` is that of the terminal at this point; null on pipes. `truncated`: earlier output is lost. */
  Attached: {
    readonly seq: number
    readonly attachmentId: number
    readonly role: "viewer" | "operator"
    readonly size: TerminalSize | null
    readonly title: string | null
    readonly truncated: boolean
  }
  Output: { readonly seq: number; readonly stream: OutputStream; readonly chunk: Buffer }
  /** Bytes that make an empty terminal of this size show the screen. They replace everything that was shown. */
  Screen: { readonly seq: number; readonly size: TerminalSize; readonly screen: Buffer; readonly skippedBytes: number }
  /** Output was skipped, and there is no screen. */
  Gap: { readonly seq: number; readonly bytes: number }
  /** The output that follows was written for this size. `by`: the attachment that has set it, if one did. */
  Resized: TerminalSize & { readonly seq: number; readonly by: number | null }
  Restarted: { readonly seq: number; readonly attempt: number; readonly pid: number }
  /** The process was reaped. Output may follow. */
  Exited: { readonly seq: number; readonly exitCode: number | null; readonly signal: string | null }
  /** The process has exited and all its output was sent. */
  Closed: { readonly seq: number }
  /** Who watches now. */
  Viewers: { readonly viewers: ReadonlyArray<Viewer> }
  /** The last event. */
  Ended: { readonly reason: EndReason }
}>
export const WatchEvent = Data.taggedEnum<WatchEvent>()
