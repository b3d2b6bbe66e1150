/**
 * The refusal of what cannot be handed to a version that replaces the server.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/** Something cannot be handed over, or not now. The message says what, and why. */
export class CannotFreeze extends Data.TaggedError("CannotFreeze")<{ readonly message: string }> {}
