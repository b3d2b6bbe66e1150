/**
 * Which requests may be sent again after a lost connection: an annotation on their definitions.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** `always`: it changes nothing, or comes to the same the second time. `withWriteId`: the server knows the write again. */
export type Repeatability = "never" | "always" | "withWriteId"

/** Whether a client that got no answer may send a request again on its next connection to the session. */
export class Repeatable extends Context.Reference<Repeatable>()("exec-server/Repeatable", {
  defaultValue: (): Repeatability => "never"
}) {}
