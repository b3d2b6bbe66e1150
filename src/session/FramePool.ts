/**
 * Reuses the buffers of large output messages: allocating one costs more than the rest of sending (`node
 * scratch/bench.mjs --only pipe,binary`).
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { maxChunkBytes } from "../spawn/ReadBuffer.js"

/** Fits the largest chunk as base64, and its envelope. */
const frameBytes = Math.ceil(maxChunkBytes / 3) * 4 + 4096

/**
 * The most idle buffers: as many as one relay stream has in flight or queued. With fewer, reallocation causes eight
 * full garbage collections per second (`node scratch/relay.mjs`).
 */
const maxIdle = 128

/** The smallest message for which reuse pays, in bytes. */
export const minBytes = 16384

/** The buffers of one server. */
export class FramePool {
  private readonly idle: Array<Buffer> = []

  /** A buffer of at least this size, with undefined content. */
  take(bytes: number): Buffer {
    if (bytes < minBytes || bytes > frameBytes) return Buffer.allocUnsafe(bytes)
    return this.idle.pop() ?? Buffer.allocUnsafeSlow(frameBytes)
  }

  /** Returns a buffer to the pool. It must not be used any more. */
  give(buffer: Buffer): void {
    if (buffer.length === frameBytes && this.idle.length < maxIdle) this.idle.push(buffer)
  }
}
