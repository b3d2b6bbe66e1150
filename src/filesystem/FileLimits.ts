/**
 * The limits of file requests. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of file requests. */
export interface Limits {
  /** Whether requests on files are served at all. */
  readonly allowFiles: boolean
}

/** The default limits. */
export const defaults: Limits = { allowFiles: true }

/** The current limits. */
export class FileLimits extends Context.Reference<FileLimits>()("exec-server/FileLimits", {
  defaultValue: () => defaults
}) {}
