/**
 * The retained output of processes: the newest bytes of each, as chunks with sequence numbers.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { OutputChunk, OutputStream } from "../protocol/ExecApi.js"
import { ProcessLimits } from "./ProcessLimits.js"
import * as ProcessMetrics from "./ProcessMetrics.js"

/** Chunks after a cursor. */
export interface Selection {
  readonly chunks: ReadonlyArray<OutputChunk>
  /** Whether `maxBytes` held back a chunk. */
  readonly cut: boolean
  /** Whether something after the cursor was dropped. */
  readonly truncated: boolean
}

/** The retained output of one process. */
export interface RetainedOutput {
  /** Copies a chunk in; whole oldest chunks give way. `seq` is above that of every chunk before. */
  readonly append: (seq: number, stream: OutputStream, bytes: Buffer) => void
  /** The oldest retained chunk after `afterSeq` and on, up to `maxBytes`; the first one whatever its size. */
  readonly select: (afterSeq: number, maxBytes: number) => Selection
  /** Whether a chunk was appended after `afterSeq`, retained or dropped since. */
  readonly hasAfter: (afterSeq: number) => boolean
  /** All retained bytes of one stream. */
  readonly concat: (stream: OutputStream) => Buffer
  /** Bytes dropped so far. */
  readonly droppedBytes: () => number
  /** Nothing will be appended: when memory is short, this output gives way first. */
  readonly seal: () => void
  /** Gives the memory back; what is appended from now on is not kept. */
  readonly release: () => void
}

/** What a buffer reports to whoever shares out the memory. */
interface Budget {
  readonly changed: (bytes: number) => void
  readonly makeRoom: (bytes: number) => void
}

const streams: ReadonlyArray<OutputStream> = ["stdout", "stderr", "pty"]

/** Smallest allocation; most processes say little. */
const initialBytes = 4096
const initialChunks = 16

/** Copies a full ring into a larger one, its oldest entry first. */
const unroll = <A extends Float64Array | Uint32Array | Uint8Array>(ring: A, first: number, larger: A): A => {
  larger.set(ring.subarray(first))
  larger.set(ring.subarray(0, first), ring.length - first)
  return larger
}

/**
 * Bytes in one ring, chunks in another: a million chunks of one byte cost 13 bytes each, and an idle process costs
 * nothing. Both rings grow by doubling.
 */
class Ring implements RetainedOutput {
  // Those of a process without output are everybody's.
  private static readonly empty = {
    bytes: Buffer.alloc(0),
    seqs: new Float64Array(0),
    lengths: new Uint32Array(0),
    kinds: new Uint8Array(0)
  }

  private bytes = Ring.empty.bytes
  private head = 0
  private size = 0
  private seqs = Ring.empty.seqs
  private lengths = Ring.empty.lengths
  private kinds = Ring.empty.kinds
  private first = 0
  private count = 0
  private dropped = 0
  private lastDroppedSeq = 0
  private lastSeq = 0
  private released = false

  constructor(
    private readonly limit: number,
    private readonly budget: Budget,
    private readonly onSeal: (self: Ring) => void,
    private readonly onRelease: (self: Ring) => void
  ) {}

  append(seq: number, stream: OutputStream, bytes: Buffer): void {
    if (this.released) return
    this.lastSeq = seq
    while (this.count > 0 && this.size + bytes.length > this.limit) this.dropOldest()
    this.budget.makeRoom(bytes.length)
    if (bytes.length > this.limit) {
      this.drop(seq, bytes.length)
      return
    }
    this.reserve(this.size + bytes.length)
    const tail = (this.head + this.size) % this.bytes.length
    const fits = Math.min(bytes.length, this.bytes.length - tail)
    bytes.copy(this.bytes, tail, 0, fits)
    if (fits < bytes.length) bytes.copy(this.bytes, 0, fits)
    const slot = (this.first + this.count) % this.seqs.length
    this.seqs[slot] = seq
    this.lengths[slot] = bytes.length
    this.kinds[slot] = streams.indexOf(stream)
    this.count++
    this.size += bytes.length
    this.budget.changed(bytes.length)
  }

  select(afterSeq: number, maxBytes: number): Selection {
    const chunks: Array<OutputChunk> = []
    let total = 0
    let cut = false
    let { index, offset } = this.find(afterSeq)
    for (; index < this.count; index++) {
      const slot = (this.first + index) % this.seqs.length
      const length = this.lengths[slot] ?? 0
      if (chunks.length > 0 && total + length > maxBytes) {
        cut = true
        break
      }
      chunks.push({
        seq: this.seqs[slot] ?? 0,
        stream: streams[this.kinds[slot] ?? 0] ?? "stdout",
        chunk: this.copy(offset, length)
      })
      total += length
      offset += length
    }
    return { chunks, cut, truncated: this.lastDroppedSeq > afterSeq }
  }

  hasAfter(afterSeq: number): boolean {
    return this.lastSeq > afterSeq
  }

  concat(stream: OutputStream): Buffer {
    const kind = streams.indexOf(stream)
    const parts: Array<Buffer> = []
    let offset = 0
    for (let index = 0; index < this.count; index++) {
      const slot = (this.first + index) % this.seqs.length
      const length = this.lengths[slot] ?? 0
      if (this.kinds[slot] === kind) parts.push(this.copy(offset, length))
      offset += length
    }
    return Buffer.concat(parts)
  }

  droppedBytes(): number {
    return this.dropped
  }

  seal(): void {
    this.onSeal(this)
  }

  release(): void {
    this.released = true
    this.onRelease(this)
    this.budget.changed(-this.size)
    this.reset()
  }

  /** Drops everything, in favour of others; it counts as dropped. */
  dropAll(): void {
    while (this.count > 0) this.dropOldest()
    this.reset()
  }

  dropOldest(): void {
    const length = this.lengths[this.first] ?? 0
    this.drop(this.seqs[this.first] ?? 0, length)
    this.first = (this.first + 1) % this.seqs.length
    this.count--
    this.head = (this.head + length) % this.bytes.length
    this.size -= length
    this.budget.changed(-length)
  }

  retained(): number {
    return this.size
  }

  private drop(seq: number, length: number): void {
    this.lastDroppedSeq = seq
    this.dropped += length
    ProcessMetrics.droppedBytes.unsafeUpdate(length, [])
  }

  private reset(): void {
    this.bytes = Ring.empty.bytes
    this.seqs = Ring.empty.seqs
    this.lengths = Ring.empty.lengths
    this.kinds = Ring.empty.kinds
    this.head = this.size = this.first = this.count = 0
  }

  /** The first chunk after a cursor: its index, and its offset from `head`. Most readers are near the end. */
  private find(afterSeq: number): { index: number; offset: number } {
    let index = this.count
    let offset = this.size
    while (index > 0) {
      const slot = (this.first + index - 1) % this.seqs.length
      if ((this.seqs[slot] ?? 0) <= afterSeq) break
      index--
      offset -= this.lengths[slot] ?? 0
    }
    return { index, offset }
  }

  private copy(offset: number, length: number): Buffer {
    const from = (this.head + offset) % this.bytes.length
    const target = Buffer.allocUnsafe(length)
    const fits = Math.min(length, this.bytes.length - from)
    this.bytes.copy(target, 0, from, from + fits)
    if (fits < length) this.bytes.copy(target, fits, 0, length - fits)
    return target
  }

  private reserve(size: number): void {
    if (size > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(this.limit, Math.max(size, this.bytes.length * 2, initialBytes)))
      const fits = Math.min(this.size, this.bytes.length - this.head)
      this.bytes.copy(grown, 0, this.head, this.head + fits)
      if (fits < this.size) this.bytes.copy(grown, fits, 0, this.size - fits)
      this.bytes = grown
      this.head = 0
    }
    if (this.count === this.seqs.length) {
      const capacity = Math.max(initialChunks, this.count * 2)
      this.seqs = unroll(this.seqs, this.first, new Float64Array(capacity))
      this.lengths = unroll(this.lengths, this.first, new Uint32Array(capacity))
      this.kinds = unroll(this.kinds, this.first, new Uint8Array(capacity))
      this.first = 0
    }
  }
}

/** Makes the retained output of processes, and shares out the memory among them. */
export class OutputBuffer extends Context.Tag("exec-server/OutputBuffer")<
  OutputBuffer,
  { readonly make: Effect.Effect<RetainedOutput> }
>() {
  /** In memory, within `retainedOutputBytesPerProcess` and `retainedOutputBytesTotal`. */
  static readonly layer: Layer.Layer<OutputBuffer> = Layer.effect(
    OutputBuffer,
    Effect.map(ProcessLimits, (limits) => {
      let total = 0
      const sealed = new Set<Ring>()
      const live = new Set<Ring>()
      const budget: Budget = {
        changed: (bytes) => {
          total += bytes
        },
        makeRoom: (bytes) => {
          if (total + bytes <= limits.retainedOutputBytesTotal) return
          for (const candidates of [sealed, live]) {
            for (const ring of candidates) {
              if (total + bytes <= limits.retainedOutputBytesTotal) return
              if (candidates === sealed) {
                ring.dropAll()
                sealed.delete(ring)
              } else while (ring.retained() > 0 && total + bytes > limits.retainedOutputBytesTotal) ring.dropOldest()
            }
          }
        }
      }
      const seal = (ring: Ring) => {
        if (live.delete(ring)) sealed.add(ring)
      }
      const release = (ring: Ring) => {
        live.delete(ring)
        sealed.delete(ring)
      }
      return {
        make: Effect.sync(() => {
          const ring = new Ring(limits.retainedOutputBytesPerProcess, budget, seal, release)
          live.add(ring)
          return ring
        })
      }
    })
  )
}
