/**
 * A bounded buffer of output that keeps its beginning and its end, and counts what was omitted between.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"

/**
 * Output, possibly without its middle.
 *
 * @category models
 */
export interface Collected {
  /** The beginning; all output if nothing was omitted. */
  readonly head: Buffer
  /** The end, after the omitted bytes; empty if nothing was omitted. */
  readonly tail: Buffer
  readonly omittedBytes: number
}

/**
 * The kept bytes in one buffer.
 *
 * @category utilities
 */
export const bytesOf = ({ head, tail }: Collected): Buffer => (tail.length === 0 ? head : Buffer.concat([head, tail]))

/**
 * Collects output; keeps at most `maxBytes`: half from the beginning, half from the end.
 *
 * @category models
 */
export class HeadTail {
  private readonly head: Array<Buffer> = []
  private headBytes = 0
  private readonly tail: Array<Buffer> = []
  private tailBytes = 0
  private omitted = 0
  private readonly maxHead: number
  private readonly maxTail: number

  constructor(maxBytes: number) {
    this.maxHead = Math.ceil(maxBytes / 2)
    this.maxTail = Math.floor(maxBytes / 2)
  }

  get isEmpty(): boolean {
    return this.headBytes + this.omitted === 0
  }

  push(chunk: Buffer): void {
    const first = chunk.subarray(0, this.maxHead - this.headBytes)
    if (first.length > 0) {
      this.head.push(first)
      this.headBytes += first.length
    }
    const rest = chunk.subarray(first.length)
    if (rest.length === 0) return
    this.tail.push(rest)
    this.tailBytes += rest.length
    while (this.tailBytes > this.maxTail) this.dropFromTail(this.tailBytes - this.maxTail)
  }

  collected(): Collected {
    const head = Buffer.concat(this.head)
    const tail = Buffer.concat(this.tail)
    return this.omitted === 0
      ? { head: Buffer.concat([head, tail]), tail: Buffer.alloc(0), omittedBytes: 0 }
      : { head, tail, omittedBytes: this.omitted }
  }

  private dropFromTail(excess: number): void {
    const oldest = this.tail[0]
    if (oldest === undefined) return
    const dropped = Math.min(excess, oldest.length)
    if (dropped === oldest.length) this.tail.shift()
    else this.tail[0] = oldest.subarray(dropped)
    this.tailBytes -= dropped
    this.omitted += dropped
  }
}
