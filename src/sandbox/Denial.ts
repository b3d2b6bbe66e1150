/**
 * Whether a confined program failed because of its confinement. Nobody is told when the kernel refuses something, so
 * this is a guess, as the original's is: the program ended with a failure, and its output has the system's words for a
 * refusal in it. A program that says nothing of it is not recognized, and one that failed for another reason may be.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { OutputStream } from "../protocol/ExecApi.js"

/** What the C library says of EPERM, EACCES and EROFS, in whatever case a program writes it. */
const refusals = /operation not permitted|permission denied|read-only file system/i

/** Whether an end looks like the consequence of a refusal. */
export const isLikely = (
  { exitCode, signal }: { readonly exitCode: number | null; readonly signal: string | null },
  output: { readonly concat: (stream: OutputStream) => Buffer }
): boolean => {
  // The answer to a system call that must not be made.
  if (signal === "SIGSYS") return true
  if (exitCode === null || exitCode === 0 || signal !== null) return false
  return (["stderr", "pty", "stdout"] as const).some((stream) =>
    refusals.test(output.concat(stream).toString("latin1"))
  )
}
