/**
 * Files with a secret, which only their owner should be able to read.
 *
 * @since 0.1.0
 */
import { statSync } from "node:fs"
import * as Effect from "effect/Effect"

/** The permission bits of group and others. */
const others = 0o077

const look = (path: string) => {
  try {
    return statSync(path)
  } catch {
    // An inaccessible file cannot be read either; reading it reports that.
    return undefined
  }
}

/**
 * A warning, with advice, if others have permissions on a regular file with a secret; undefined if not, or if the file
 * is inaccessible. `what` describes the file.
 */
export const warningOf = (what: string, path: string): string | undefined => {
  const found = look(path)
  if (found?.isFile() !== true || (found.mode & others) === 0) return undefined
  const mode = (found.mode & 0o777).toString(8).padStart(4, "0")
  return `others may read or change ${what} ${path} (mode ${mode}): run chmod 600 ${path}`
}

/** Logs the warning of `warningOf`, if there is one. */
export const warn = (what: string, path: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const warning = warningOf(what, path)
    return warning === undefined ? Effect.void : Effect.logWarning(warning)
  })
