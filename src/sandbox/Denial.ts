/**
 * Guesses whether a confined program failed because of its confinement (`sandboxDenied`). The kernel does not report
 * refusals to us, so this uses the original's heuristic: the program failed, and its output contains an error text for
 * a denied operation. It misses programs that print no such text, and matches some that failed for other reasons.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { OutputStream } from "../protocol/ExecApi.js"

/** The texts of EPERM, EACCES and EROFS in the C library, in any case. */
const refusals = /operation not permitted|permission denied|read-only file system/i

/** Whether the exit and the output look like a denied operation. */
export const isLikely = (
  { exitCode, signal }: { readonly exitCode: number | null; readonly signal: string | null },
  output: { readonly concat: (stream: OutputStream) => Buffer }
): boolean => {
  // The signal for a forbidden system call.
  if (signal === "SIGSYS") return true
  if (exitCode === null || exitCode === 0 || signal !== null) return false
  return (["stderr", "pty", "stdout"] as const).some((stream) =>
    refusals.test(output.concat(stream).toString("latin1"))
  )
}
