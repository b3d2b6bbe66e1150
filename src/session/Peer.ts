/**
 * The other end of a connection, as a transport presents it.
 *
 * @since 0.1.0
 */

import type { Buffer } from "node:buffer"
import type { SocketOwner } from "../spawn/SocketOwner.js"
import type { Grant } from "./Grant.js"

/**
 * Why a connection ends; the codes of WebSocket, which other transports merely log.
 *
 * @category models
 */
export interface Ending {
  readonly code: 1000 | 1001 | 1002 | 1008
  readonly reason: string
}

/**
 * What a peer reports. Every call comes from the event loop.
 *
 * @category models
 */
export interface PeerEvents {
  /** One whole message. */
  readonly onMessage: (text: string) => void
  /** Something that cannot be a message, and why; the connection goes on. */
  readonly onMalformed: (detail: string) => void
  /** Everything sent has left this process; at the latest when `buffered` was above `highWaterBytes` before. */
  readonly onDrain: () => void
  /** The connection has ended. Called once; no other report follows. */
  readonly onEnd: () => void
}

/**
 * A peer with more unsent bytes than this is congested: its processes are not read and its requests not served until
 * it has taken everything. Large enough that the next bytes are on their way before the kernel's buffers run dry.
 *
 * @category constants
 */
export const highWaterBytes = 262144

/**
 * One connected peer. Sending to one that is gone does nothing.
 *
 * @category models
 */
export interface Peer {
  /** The peer's name, for logs: its address, or the kind of transport. */
  readonly name: string
  /** The start of the error about a malformed message: names the transport and the peer. */
  readonly malformedPrefix: string
  /**
   * Whether a lost connection can be followed by another one: not on stdio, whose end is the server's. One that can
   * must finish its handshake in time.
   */
  readonly resumable: boolean
  /** Whose connection it is. */
  readonly grant: Grant
  /** The owner of the other end, where that is a process of this machine. */
  readonly owner?: SocketOwner | undefined
  /** Starts the reports. */
  readonly listen: (events: PeerEvents) => void
  /** Sends one message. */
  readonly send: (text: string) => void
  /**
   * Sends a part of one message of UTF-8, whose parts follow each other with no other message between them. A peer
   * without it is sent every message whole.
   */
  readonly sendPart?: (part: Buffer, isLast: boolean) => void
  /**
   * Sends one whole message of UTF-8, in order with the others. The bytes are not changed until `onSent`, which need
   * not come if the peer is gone. A peer without it is sent strings.
   */
  readonly sendUtf8?: (bytes: Buffer, onSent: () => void) => void
  /**
   * Bytes that must be free before and after what `sendUtf8` and `sendBinary` are given, in the same memory, which the
   * peer writes to: what surrounds the message on its way.
   */
  readonly roomAround?: { readonly before: number; readonly after: number }
  /** Sends a binary message in the same way. A peer without this method accepts text only. */
  readonly sendBinary?: (bytes: Buffer, onSent: () => void) => void
  /** Bytes sent that have not left this process. */
  readonly buffered: () => number
  /** Pauses and resumes reading from the peer. A few messages may still arrive after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
  /**
   * Says, within a few seconds, whether the peer is still there: one that was heard of lately is, and one that was not is
   * asked. A peer without it is there until it ends.
   */
  readonly probe?: (onAnswer: (isAlive: boolean) => void) => void
  /** Closes the connection. `onEnd` follows. */
  readonly close: (ending: Ending) => void
}
