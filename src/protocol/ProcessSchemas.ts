/**
 * Schemas of processes that several groups of requests share.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ProcessId, SessionHandle } from "./Ids.js"
import { Cells, Integer, maybe, nullOr, oneOf, Text, withFallback } from "./Schemas.js"

/**
 * A process of the connection's own session, or of `session` (ours) if the grant permits it.
 *
 * @category schemas
 */
export const processFields = {
  /** The handle of its session (ours); by default the connection's own. */
  session: maybe(SessionHandle),
  /** The id that its client gave it. */
  processId: ProcessId
}

/**
 * The stream that output came from; a terminal has one, `pty`, for both stdout and stderr.
 *
 * @category schemas
 */
export const OutputStream = oneOf("stdout", "stderr", "pty")
export type OutputStream = typeof OutputStream.Type

/**
 * The leader's exit status: `null` while it runs, 128 + n after signal n, whose name is then in `signal` (ours).
 *
 * @category schemas
 */
export const exitFields = {
  /** The exit status of the process, 128 + n after signal n; null while it runs, or if it is not known. */
  exitCode: nullOr(Integer),
  /** The name of the signal that ended it (ours); null if none did. */
  signal: withFallback(nullOr(Text), () => null)
}

/**
 * The size of a terminal.
 *
 * @category schemas
 */
export const TerminalSize = Schema.Struct({ rows: Cells, cols: Cells })
export type TerminalSize = typeof TerminalSize.Type
