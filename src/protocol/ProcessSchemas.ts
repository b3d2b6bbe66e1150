/**
 * Schemas of processes that several groups of requests share.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Cells, Integer, oneOf, Text, withFallback } from "./Schemas.js"

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
  exitCode: Schema.NullOr(Integer),
  signal: withFallback(Schema.NullOr(Text), () => null)
}

/**
 * The size of a terminal.
 *
 * @category schemas
 */
export const TerminalSize = Schema.Struct({ rows: Cells, cols: Cells })
export type TerminalSize = typeof TerminalSize.Type
