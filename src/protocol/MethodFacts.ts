/**
 * What is true of a method beside its payloads, as annotations of its definition: whoever adds a method says it there.
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

/**
 * Whether the answer may be large. Such a request waits while its peer is congested, and others pass it; so it must not
 * change anything that a request behind it sees.
 */
export class LargeAnswer extends Context.Reference<LargeAnswer>()("exec-server/LargeAnswer", {
  defaultValue: () => false
}) {}
