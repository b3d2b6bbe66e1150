/**
 * Ends the grace period of a shutdown early. A reference with a default: provide another value to change it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** Completes when the remaining grace period is to be skipped; never by default. */
export class SkipGrace extends Context.Reference<SkipGrace>()("exec-server/SkipGrace", {
  defaultValue: (): Effect.Effect<void> => Effect.never
}) {}
