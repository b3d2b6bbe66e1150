/**
 * Who a connection belongs to, and for how long. Sessions belong to it as well.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { SocketOwner } from "../spawn/SocketOwner.js"

/**
 * What authentication has found out.
 *
 * @category models
 */
export interface Grant {
  /**
   * The subject. Two connections with the same one are the same client, and each may resume the sessions of the other.
   * Logs and the audit log have it, so it must not be a secret.
   */
  readonly id: string
  /** When the connection ends because the credential does, in milliseconds since 1970; undefined: it does not. */
  readonly expiresAtMs?: number | undefined
}

/**
 * The subject of clients that nobody tells apart.
 *
 * @category constructors
 */
export const anonymous: Grant = { id: "anonymous" }

/**
 * The subject of a client that did not authenticate: the user of this machine whose process it is, as far as the kernel
 * tells.
 *
 * @category constructors
 */
export const ofOwner = (owner: SocketOwner | undefined): Grant =>
  owner === undefined || owner._tag === "Unknown" ? anonymous : { id: `local:${owner.uid}` }

/**
 * What the middleware of an application has found out about a request that `HttpUpgrade.serve` answers. Without one, the
 * client did not authenticate.
 *
 * @category tags
 */
export class CurrentGrant extends Context.Reference<CurrentGrant>()("exec-server/CurrentGrant", {
  defaultValue: (): Grant | undefined => undefined
}) {}
