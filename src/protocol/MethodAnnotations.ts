/**
 * Properties of a method beyond its payloads, as annotations on its definition in the API groups.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** `always`: the method is idempotent. `withWriteId`: idempotent if the request has a `writeId`. */
export type Repeatability = "never" | "always" | "withWriteId"

/** Whether a client may retry a request on its next connection if the response was lost. */
export class Repeatable extends Context.Reference<Repeatable>()("exec-server/Repeatable", {
  defaultValue: (): Repeatability => "never"
}) {}

/**
 * Whether the response may be large. While the peer is congested such a request waits and later requests overtake it,
 * so its method must only read state.
 */
export class LargeAnswer extends Context.Reference<LargeAnswer>()("exec-server/LargeAnswer", {
  defaultValue: () => false
}) {}
