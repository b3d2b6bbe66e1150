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
  /** Messages of all WebSocket connections that have not arrived in full, in bytes. */
  readonly unfinishedMessageBytesTotal: number
  /** WebSocket connections at a time. */
  readonly maxConnections: number
  /** Time between pings on WebSocket, in milliseconds: proxies close connections that stay silent for a minute. */
  readonly pingIntervalMs: number
}

/** The limits that hold where no others are provided. */
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

/** What a Node.js timer can wait, in milliseconds; longer ones fire at once. */
const maxTimerMs = 2147483647

/** A time limited to what a Node.js timer accepts. */
export const timerMs = (ms: number): number => Math.min(ms, maxTimerMs)
