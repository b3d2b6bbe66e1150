/**
 * The limits of messages and connections: a reference with defaults. Provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Limits of every transport. */
export interface Limits {
  /** The longest message that is read, in bytes. */
  readonly maxMessageBytes: number
  /** Bytes of incomplete messages on all WebSocket connections. */
  readonly unfinishedMessageBytesTotal: number
  /** The most WebSocket connections. */
  readonly maxConnections: number
  /** The time between WebSocket pings, in milliseconds: proxies close connections that are silent for a minute. */
  readonly pingIntervalMs: number
}

/** The default limits. */
export const defaults: Limits = {
  maxMessageBytes: 67108864,
  unfinishedMessageBytesTotal: 268435456,
  maxConnections: 1024,
  pingIntervalMs: 30000
}

/** The limits in force. */
export class TransportLimits extends Context.Reference<TransportLimits>()("exec-server/TransportLimits", {
  defaultValue: () => defaults
}) {}
