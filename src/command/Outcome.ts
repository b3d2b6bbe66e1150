/**
 * How a command ends when it does not simply succeed.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/** It ends with this status; everything there is to say has been said. */
export class Exited extends Data.TaggedError("Exited")<{ readonly code: number }> {}

/** It was called in a way that makes no sense; the message says how it is called. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

/** It could not do its work; the message is one sentence. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}
