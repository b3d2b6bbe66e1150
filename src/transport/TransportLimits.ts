/**
 * What bounds messages. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of every transport. */
export interface Limits {
  /** The longest message that is read, in bytes. */
  readonly maxMessageBytes: number
}

/** The limits in force. */
export class TransportLimits extends Context.Reference<TransportLimits>()("exec-server/TransportLimits", {
  defaultValue: (): Limits => ({ maxMessageBytes: 67108864 })
}) {}
