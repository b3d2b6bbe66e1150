/**
 * The generation of the client, decided once per connection from the parameters of `initialize`.
 *
 * @since 0.1.0
 */

/**
 * - `v0`: the first design. Processes end with their connection; a refused write is an error.
 * - `session`: May and current. Processes outlive a lost connection for a while; a refused write is a status.
 */
export type Dialect = "v0" | "session"

/** Later clients always send `resumeSessionId`, if only as `null`; the others are our extensions for sessions. */
const laterMembers = ["resumeSessionId", "capabilities", "takeover", "sessionTtlMs", "name"]

/** v0 clients send none of the later members. */
export const of = (initialize: object): Dialect =>
  laterMembers.some((member) => member in initialize) ? "session" : "v0"
