/**
 * Who a connection belongs to, what it may do, and for how long. Sessions belong to a subject as well.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { SocketOwner } from "../spawn/SocketOwner.js"

/**
 * All roles.
 *
 * @category constants
 */
export const roles = ["client", "viewer", "operator"] as const

/**
 * What a subject may do; `Access` has the table. `client`: everything in its own session. `viewer`: watch all sessions.
 * `operator`: everything in all sessions.
 *
 * @category models
 */
export type Role = (typeof roles)[number]

/**
 * The one process, or the processes of one session, that a viewer or an operator is limited to.
 *
 * @category models
 */
export interface Scope {
  /** The public handle of the session. */
  readonly session: string
  readonly processId?: string | undefined
}

/**
 * What authentication has found out.
 *
 * @category models
 */
export interface Grant {
  /**
   * The subject. Connections with the same subject are the same client and may resume each other's sessions. It is
   * logged and audited, so it must not be a secret.
   */
  readonly id: string
  /** `client` by default. */
  readonly role?: Role | undefined
  /** What a viewer or an operator is limited to; without it, nothing. */
  readonly scope?: Scope | undefined
  /** When the connection ends because the credential does, in milliseconds since 1970; undefined: it does not. */
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
