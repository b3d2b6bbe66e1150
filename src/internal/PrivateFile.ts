/**
 * Files that hold a secret, and should be readable by their owner alone.
 *
 * @since 0.1.0
 */
import { statSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"

/** The bits of a mode that let others than the owner read, write or execute. */
const othersMask = 0o077

/** The mode of a file, if it lets others in; undefined also for what cannot be looked at, which fails when it is read. */
const sharedMode = (path: string): number | undefined => {
  // Elsewhere the mode says nothing about who can read the file.
  if (process.platform === "win32") return undefined
  try {
    const mode = statSync(path).mode & 0o777
    return (mode & othersMask) === 0 ? undefined : mode
  } catch {
    return undefined
  }
}

/** Logs a warning if others than its owner can use a file; `what` says which secret it holds, such as `the TLS key`. */
export const warnIfShared = (what: string, file: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const path = resolve(file)
    const mode = sharedMode(path)
    return mode === undefined
      ? Effect.void
      : Effect.logWarning(
          `${what} in ${path} can be used by other users of this machine (mode ${mode.toString(8)}); run: chmod 600 ${path}`
        )
  })
