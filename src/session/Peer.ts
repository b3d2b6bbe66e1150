/**
 * The other end of a connection, as a transport presents it.
 *
 * @since 0.1.0
 */

import type { Buffer } from "node:buffer"
import type { SocketOwner } from "../spawn/SocketOwner.js"
import type { Grant } from "./Grant.js"

/**
 * Why a connection ends. The codes are WebSocket's; other transports only log them.
 *
 * @category models
 */
export interface Ending {
  readonly code: 1000 | 1001 | 1002 | 1008
  readonly reason: string
}

/**
 * How connections end with the server.
 *
 * @category constants
 */
export const shuttingDown: Ending = { code: 1001, reason: "the server is shutting down" }

/**
 * What a peer reports. Every call comes from the event loop.
 *
 * @category models
 */
export interface PeerEvents {
  /** One whole message. */
  readonly onMessage: (text: string) => void
  /** Reports data that is not a message, with the reason. The connection continues. */
  readonly onMalformed: (detail: string) => void
  /** Everything sent has left this process. Reported at the latest after `buffered` exceeded `highWaterBytes`. */
  readonly onDrain: () => void
  /** The connection has ended. Called once; no other report follows. */
  readonly onEnd: () => void
}

/**
 * A peer with more unsent bytes than this is congested: its processes are not read and its requests not served until
 * everything was sent. Large enough to refill the kernel's buffers before they run empty.
 *
 * @category constants
 */
export const highWaterBytes = 262144

/**
 * A connected peer. Sending to a disconnected one does nothing.
 *
 * @category models
 */
export interface Peer {
  /** The peer's name, for logs: its address, or the kind of transport. */
  readonly name: string
  /** The prefix of errors about malformed messages: names the transport and the peer. */
  readonly malformedPrefix: string
  /**
   * Whether the client can reconnect after a loss. Not on stdio, where the server ends with the connection. A resumable
   * peer must finish its handshake in time.
   */
  readonly resumable: boolean
  /** The subject of the connection. */
  readonly grant: Grant
  /**
   * A name for the key that the peer has proved to have. A connection with the same key takes its session over at once,
   * without asking whether this one still lives.
   */
  readonly key?: string | undefined
  /** Whether a message that is not one ends the connection. Otherwise it is answered with an error without an id. */
  readonly malformedEnds?: boolean
  /** The process at the other end, if it is local. */
  readonly owner?: SocketOwner | undefined
  /** Starts the reports. */
  readonly listen: (events: PeerEvents) => void
  /** Sends one message. */
  readonly send: (text: string) => void
  /**
   * Sends a part of a UTF-8 message. No other message may come between its parts. Peers without this method are sent
   * whole messages.
   */
  readonly sendPart?: (part: Buffer, isLast: boolean) => void
  /**
   * Sends a whole message of UTF-8, in order with the others. The bytes must not change until `onSent`, which may not
   * be called if the peer is gone. Peers without this method are sent strings.
   */
  readonly sendUtf8?: (bytes: Buffer, onSent: () => void) => void
  /**
   * The bytes to leave free before and after the message given to `sendUtf8` and `sendBinary`, in the same memory: the
   * peer writes framing there.
   */
  readonly roomAround?: { readonly before: number; readonly after: number }
  /** Sends a binary message in the same way. Peers without this method accept only text. */
  readonly sendBinary?: (bytes: Buffer, onSent: () => void) => void
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
  /** Pauses and resumes reading from the peer. A few messages may still arrive after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
  /**
   * Reports within a few seconds whether the peer is alive. It is pinged unless it was heard of recently. Peers without
   * this method are alive until they end.
   */
  readonly probe?: (onAnswer: (isAlive: boolean) => void) => void
  /** Closes the connection. `onEnd` follows. */
  readonly close: (ending: Ending) => void
}
