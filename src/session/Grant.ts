/**
 * The subject that a connection and its sessions belong to, its permissions, and when they expire.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { SocketOwner } from "../spawn/SocketOwner.js"

/**
 * All roles.
 *
 * @category constants
 */
export const roles = ["client", "viewer", "operator"] as const

/**
 * The permissions of a subject, as a word. `client`: everything in its own session. `viewer`: watch all sessions.
 * `operator`: everything in all sessions.
 *
 * @category models
 */
export type Role = (typeof roles)[number]

/**
 * Limits a viewer or an operator to one session, or to one process.
 *
 * @category models
 */
export interface Scope {
  /** The public handle of the session. */
  readonly session: string
  readonly processId?: string | undefined
}

/**
 * The share that a grant comes from.
 *
 * @category models
 */
export interface Share {
  /**
   * Counts a connection until the returned function is called. `end` is called with the reason if the connection must
   * end: at once, if the share permits no further one, or when it is revoked.
   */
  readonly enter: (end: (reason: string) => void) => () => void
  /** Whether this is the shared process, and not a later one of its id. */
  readonly covers: (process: object | undefined) => boolean
}

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
  /** `client` by default. */
  readonly role?: Role | undefined
  /** The limit of a viewer or an operator; none by default. */
  readonly scope?: Scope | undefined
  /** When the credential expires, and with it the connection, in milliseconds since 1970; undefined if it does not. */
  readonly expiresAtMs?: number | undefined
  /** The share that it comes from, if any. */
  readonly share?: Share | undefined
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
 * The longest single wait for the expiry of a credential, in milliseconds: timers are limited, and the system clock may
 * be set.
 */
const maxExpiryWaitMs = 3_600_000

/**
 * Waits until a credential has expired, at a time in milliseconds since 1970.
 *
 * @category utilities
 */
export const expired = (expiresAtMs: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    now >= expiresAtMs
      ? Effect.void
      : Effect.zipRight(Effect.sleep(Math.min(expiresAtMs - now, maxExpiryWaitMs)), expired(expiresAtMs))
  )

/**
 * The grant that an application's middleware established for a request that `HttpUpgrade.serve` handles. Undefined if
 * the client did not authenticate.
 *
 * @category tags
 */
export class CurrentGrant extends Context.Reference<CurrentGrant>()("exec-server/CurrentGrant", {
  defaultValue: (): Grant | undefined => undefined
}) {}
