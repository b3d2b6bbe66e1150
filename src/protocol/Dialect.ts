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

/** v0 clients send neither member; later ones always send `resumeSessionId`, if only as `null`. */
export const of = (initialize: object): Dialect =>
  "resumeSessionId" in initialize || "capabilities" in initialize ? "session" : "v0"
