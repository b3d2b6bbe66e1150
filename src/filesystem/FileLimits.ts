/**
 * What bounds the requests on files. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of the requests on files. */
export interface Limits {
  /** Whether requests on files are served at all. */
  readonly allowFiles: boolean
}

/** The limits that hold where no others are provided. */
export const defaults: Limits = { allowFiles: true }

/** The limits in force. */
export class FileLimits extends Context.Reference<FileLimits>()("exec-server/FileLimits", {
  defaultValue: () => defaults
}) {}
