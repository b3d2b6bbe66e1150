/**
 * Files that hold a secret, and should be readable by their owner alone.
 *
 * @since 0.1.0
 */
import { statSync } from "node:fs"
import * as Effect from "effect/Effect"

/** The permissions of everybody but the owner. */
const others = 0o077

const look = (path: string) => {
  try {
    return statSync(path)
  } catch {
    // What cannot be looked at cannot be read either, which is told elsewhere.
    return undefined
  }
}

/**
 * Says of a regular file with a secret that others have permissions on it, and what to do; undefined if they have none,
 * or if it cannot be looked at. `what` it is stands in front of its path.
 */
export const warningOf = (what: string, path: string): string | undefined => {
  const found = look(path)
  if (found?.isFile() !== true || (found.mode & others) === 0) return undefined
  const mode = (found.mode & 0o777).toString(8).padStart(4, "0")
  return `others may read or change ${what} ${path} (mode ${mode}): run chmod 600 ${path}`
}

/** Logs that warning, if there is something to warn of. */
export const warn = (what: string, path: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const warning = warningOf(what, path)
    return warning === undefined ? Effect.void : Effect.logWarning(warning)
  })
