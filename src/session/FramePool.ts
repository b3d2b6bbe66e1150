/**
 * Buffers for messages of much output, used again when they have left: new memory for each costs more than the rest of
 * sending it (`node scratch/bench.mjs --only pipe,binary`).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { maxChunkBytes } from "../spawn/ReadBuffer.js"

/** Holds the largest chunk as base64, with what is around it. */
const frameBytes = Math.ceil(maxChunkBytes / 3) * 4 + 4096

/**
 * How many buffers lie idle at most: as many as one relay stream has under way or waiting. With fewer, what is dropped
 * and made anew brings a collection of all garbage eight times a second (`node scratch/relay.mjs`).
 */
const maxIdle = 128

/** The smallest message, in bytes, for which reuse pays. */
export const minBytes = 16384

/** The buffers of one server. */
export class FramePool {
  private readonly idle: Array<Buffer> = []

  /** A buffer of at least this size, with undefined content. */
  take(bytes: number): Buffer {
    if (bytes < minBytes || bytes > frameBytes) return Buffer.allocUnsafe(bytes)
    return this.idle.pop() ?? Buffer.allocUnsafeSlow(frameBytes)
  }

  /** Returns a buffer to the pool; nobody may read it any more. */
  give(buffer: Buffer): void {
    if (buffer.length === frameBytes && this.idle.length < maxIdle) this.idle.push(buffer)
  }
}
