/**
 * Which generation of client is speaking. Decided once, at `initialize`.
 *
 * @since 0.1.0
 */

/**
 * - `v0`: the first design. Its processes end with their connection, and a write that cannot be accepted is an error.
 * - `session`: May and now. Its processes outlive the connection for a while, and a refused write is a status.
 */
export type Dialect = "v0" | "session"

/** The first design knew neither member; later clients always send `resumeSessionId`, also as `null`. */
export const of = (initialize: object): Dialect =>
  "resumeSessionId" in initialize || "capabilities" in initialize ? "session" : "v0"
