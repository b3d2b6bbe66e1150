/**
 * The limits of sessions: a reference with defaults. Provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of one server's sessions. */
export interface Limits {
  /** Sessions, attached or not. */
  readonly maxSessions: number
  /** How long a detached session waits to be resumed, in milliseconds. */
  readonly detachedSessionTtlMs: number
  /** The longest `sessionTtlMs` that a client may request; undefined if unlimited. */
  readonly maxSessionTtlMs: number | undefined
  /** How long a connection may take to be accepted, and then again to send `initialized`, in milliseconds. */
  readonly handshakeTimeoutMs: number
  /** The most requests of one connection that are served at a time, up to 4096; further ones wait, in order. */
  readonly concurrentRequests: number
  /**
   * Requests of all connections that have no answer yet, in bytes; further ones are refused, except for 256 KiB of each
   * connection.
   */
  readonly requestBytesTotal: number
  /** Attachments of one process. */
  readonly maxViewersPerProcess: number
  /** Screens of terminals that are kept for attachments. */
  readonly maxScreens: number
}

/** The default limits. */
export const defaults: Limits = {
  maxSessions: 1024,
  detachedSessionTtlMs: 30000,
  maxSessionTtlMs: undefined,
  handshakeTimeoutMs: 10000,
  concurrentRequests: 4096,
  requestBytesTotal: 268435456,
  maxViewersPerProcess: 32,
  maxScreens: 64
}

/** The limits in force. */
export class SessionLimits extends Context.Reference<SessionLimits>()("exec-server/SessionLimits", {
  defaultValue: () => defaults
}) {}
