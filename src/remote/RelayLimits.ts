/**
 * What bounds relay streams. A reference with defaults: provide another value to change them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/**
 * Limits of every relay stream, and of the socket they share.
 *
 * @category models
 */
export interface Limits {
  /** Streams of one socket. */
  readonly maxStreams: number
  /** A message to a peer that puts segments together is cut into pieces of this many bytes. */
  readonly segmentBytes: number
  /** The most segments that a received message may come in. */
  readonly maxSegments: number
  /** Segments sent and not acknowledged. */
  readonly windowFrames: number
  /** Likewise, in bytes; a single larger segment is sent alone. */
  readonly windowBytes: number
  /** Bytes received and not taken yet, of all streams of one socket. */
  readonly maxHeldBytes: number
}

/**
 * The limits in force.
 *
 * @category tags
 */
export class RelayLimits extends Context.Reference<RelayLimits>()("exec-server/RelayLimits", {
  defaultValue: (): Limits => ({
    maxStreams: 256,
    // Above the largest notification of output: 64 KiB in base64, and its envelope.
    segmentBytes: 131072,
    maxSegments: 65536,
    windowFrames: 512,
    windowBytes: 4194304,
    maxHeldBytes: 268435456
  })
}) {}
