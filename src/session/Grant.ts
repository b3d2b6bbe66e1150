/**
 * The subject that a connection and its sessions belong to, and for how long.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { SocketOwner } from "../spawn/SocketOwner.js"

/**
 * The result of authentication.
 *
 * @category models
 */
export interface Grant {
  /**
   * The subject. Connections with the same subject are the same client and may resume each other's sessions. It is
   * logged and audited, so it must not be a secret.
   */
  readonly id: string
  /** When the credential expires, and with it the connection, in milliseconds since 1970; undefined if it does not. */
  readonly expiresAtMs?: number | undefined
}

/**
 * The subject of clients that cannot be told apart.
 *
 * @category constructors
 */
export const anonymous: Grant = { id: "anonymous" }

/**
 * The subject of a client that did not authenticate: its local user, if the kernel reports it.
 *
 * @category constructors
 */
export const ofOwner = (owner: SocketOwner | undefined): Grant =>
  owner === undefined || owner._tag === "Unknown" ? anonymous : { id: `local:${owner.uid}` }

/**
 * The grant that an application's middleware established for a request that `HttpUpgrade.serve` handles. Undefined if
 * the client did not authenticate.
 *
 * @category tags
 */
export class CurrentGrant extends Context.Reference<CurrentGrant>()("exec-server/CurrentGrant", {
  defaultValue: (): Grant | undefined => undefined
}) {}
