/**
 * The limits of relay streams. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/**
 * Limits of a relay stream, and of the socket that streams share.
 *
 * @category models
 */
export interface Limits {
  /** The most streams of one socket. */
  readonly maxStreams: number
  /** The size of the pieces of a message to a peer that reassembles them, in bytes. */
  readonly segmentBytes: number
  /**
   * The longest message to a peer that does not reassemble, in bytes; a longer one ends its stream. No shorter frame is
   * refused on a shared socket: that would end the streams of all.
   */
  readonly maxWholeBytes: number
  /** The most segments of a received message. */
  readonly maxSegments: number
  /** The most unacknowledged segments. */
  readonly windowFrames: number
  /** The most unacknowledged bytes. A larger single segment is sent alone. */
  readonly windowBytes: number
  /** The most bytes received and not consumed, of all streams of one socket. */
  readonly maxHeldBytes: number
  /** How long a handshake may wait for others before it begins, in milliseconds. */
  readonly handshakeWaitMs: number
}

/**
 * The limits in force.
 *
 * @category tags
 */
export class RelayLimits extends Context.Reference<RelayLimits>()("exec-server/RelayLimits", {
  defaultValue: (): Limits => ({
    maxStreams: 4096,
    // Above the largest output notification: 64 KiB in base64, and its envelope.
    segmentBytes: 131072,
    // What rendezvous accept by default, as the original's do.
    maxWholeBytes: 67108864,
    maxSegments: 65536,
    windowFrames: 512,
    windowBytes: 4194304,
    maxHeldBytes: 268435456,
    // Clients give up after 10 seconds, unless they are told otherwise.
    handshakeWaitMs: 30000
  })
}) {}
