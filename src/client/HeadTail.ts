/**
 * The beginning and the end of output, and how much lay between.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"

/** Output of which the middle may be left out. */
export interface Collected {
  /** All of it where nothing was left out. */
  readonly head: Buffer
  /** What followed the bytes that were left out; empty where there were none. */
  readonly tail: Buffer
  readonly omittedBytes: number
}

/** Everything that was kept, in one piece. */
export const bytesOf = ({ head, tail }: Collected): Buffer => (tail.length === 0 ? head : Buffer.concat([head, tail]))

/** Takes output; keeps at most `maxBytes`, half of it from the beginning and half from the end. */
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
