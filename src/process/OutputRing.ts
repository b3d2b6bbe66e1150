/**
 * A ring buffer of numbered output chunks: the oldest are dropped to make room.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import type { OutputChunk, OutputStream } from "../protocol/ExecApi.js"
import type { RingState } from "./ProcessImage.js"

/** The memory budget that rings share; it also counts dropped bytes. */
export interface Budget {
  /** The number of retained bytes has changed by `bytes`. */
  readonly changed: (bytes: number) => void
  /** `bytes` are about to be added: other output may have to be dropped. */
  readonly makeRoom: (bytes: number) => void
  /** `bytes` were dropped. */
  readonly dropped: (bytes: number) => void
}

const streams: ReadonlyArray<OutputStream> = ["stdout", "stderr", "pty"]

/** The smallest allocation; most processes print little. */
const initialBytes = 4096
const initialChunks = 16

/** One of so many slots has a note of the offset of its chunk. */
const slotsPerNote = 64

/** Copies a full ring into a larger one, its oldest entry first. */
const unroll = <A extends Float64Array | Uint32Array | Uint8Array>(ring: A, first: number, larger: A): A => {
  larger.set(ring.subarray(first))
  larger.set(ring.subarray(0, first), ring.length - first)
  return larger
}

const viewOf = ({ buffer, byteOffset, byteLength }: Float64Array | Uint32Array | Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength)

/** A copy of bytes, aligned for numbers of any size. */
const memoryOf = (bytes: Buffer): ArrayBuffer => new Uint8Array(bytes).buffer

/** Calls `use` for the chunks of a frozen ring, in order, with copies of their bytes. */
export const forEachChunk = (
  { content }: RingState,
  reader: ImageReader,
  use: (seq: number, stream: OutputStream, bytes: Buffer) => void
): void => {
  if (content === undefined) return
  const ring = new OutputRing(Number.POSITIVE_INFINITY, { changed: () => {}, makeRoom: () => {}, dropped: () => {} })
  ring.restore({ content, dropped: [], firstDroppedSeq: null, lastDroppedSeq: 0, lastSeq: 0 }, reader)
  const chunks: Array<OutputChunk> = []
  ring.collect(0, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, chunks)
  for (const { seq, stream, chunk } of chunks) use(seq, stream, chunk)
}

/**
 * One ring of bytes, one of chunks: a million chunks of one byte cost 13 bytes each, and an idle process costs nothing.
 * Both rings grow by doubling. A reader finds its place without a walk through all chunks.
 */
export class OutputRing {
  // Shared by all processes without output.
  private static readonly empty = {
    bytes: Buffer.alloc(0),
    seqs: new Float64Array(0),
    lengths: new Uint32Array(0),
    kinds: new Uint8Array(0),
    notes: new Float64Array(0)
  }

  private bytes: Buffer = OutputRing.empty.bytes
  private head = 0
  private size = 0
  private seqs = OutputRing.empty.seqs
  private lengths = OutputRing.empty.lengths
  private kinds = OutputRing.empty.kinds
  /** The number of bytes before the chunk of every `slotsPerNote`th slot, dropped ones included. */
  private notes = OutputRing.empty.notes
  /** The number of bytes before the first chunk, in the same count. */
  private passed = 0
  private first = 0
  private count = 0
  /** Dropped bytes by stream; most processes drop none. */
  private dropped: Float64Array | undefined
  private earliestDroppedSeq = Number.POSITIVE_INFINITY
  private latestDroppedSeq = 0
  private latestSeq = 0

  constructor(
    private readonly limit: number,
    private readonly budget: Budget
  ) {}

  /** Retained bytes. */
  get retained(): number {
    return this.size
  }

  /** The number of the last appended chunk, even if it was dropped since; 0 if there is none. */
  get lastSeq(): number {
    return this.latestSeq
  }

  /** The number of the first dropped chunk; infinite if there is none. */
  get firstDroppedSeq(): number {
    return this.earliestDroppedSeq
  }

  /** The number of the last dropped chunk; 0 if there is none. */
  get lastDroppedSeq(): number {
    return this.latestDroppedSeq
  }

  /** Whether a chunk of `length` bytes fits without dropping another. */
  hasRoomFor(length: number): boolean {
    return this.size + length <= this.limit
  }

  /** Copies a chunk; `seq` is above that of every earlier chunk. */
  append(seq: number, stream: OutputStream, bytes: Buffer): void {
    this.latestSeq = seq
    while (this.count > 0 && !this.hasRoomFor(bytes.length)) this.dropOldest()
    this.budget.makeRoom(bytes.length)
    if (bytes.length > this.limit) {
      this.drop(seq, streams.indexOf(stream), bytes.length)
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
    if (slot % slotsPerNote === 0) this.notes[slot / slotsPerNote] = this.passed + this.size
    this.count++
    this.size += bytes.length
    this.budget.changed(bytes.length)
  }

  /**
   * Adds the chunks after a cursor to `chunks`, up to `maxBytes` and `maxChunks` in total; the first one of any size.
   * Returns whether one was held back.
   */
  collect(afterSeq: number, maxBytes: number, maxChunks: number, chunks: Array<OutputChunk>): boolean {
    let total = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0)
    let { index, offset } = this.find(afterSeq)
    for (; index < this.count; index++) {
      const slot = (this.first + index) % this.seqs.length
      const length = this.lengths[slot] ?? 0
      if (chunks.length >= maxChunks || (chunks.length > 0 && total + length > maxBytes)) return true
      chunks.push({
        seq: this.seqs[slot] ?? 0,
        stream: streams[this.kinds[slot] ?? 0] ?? "stdout",
        chunk: this.copy(offset, length)
      })
      total += length
      offset += length
    }
    return false
  }

  /** How many bytes are retained after a cursor. */
  bytesAfter(afterSeq: number): number {
    return this.size - this.find(afterSeq).offset
  }

  /** All retained bytes of one stream. */
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

  /** How many bytes of one stream are retained. */
  lengthOf(stream: OutputStream): number {
    const kind = streams.indexOf(stream)
    let length = 0
    for (let index = 0; index < this.count; index++) {
      const slot = (this.first + index) % this.seqs.length
      if (this.kinds[slot] === kind) length += this.lengths[slot] ?? 0
    }
    return length
  }

  /** Bytes dropped so far, of one stream or of all. */
  droppedBytes(stream?: OutputStream): number {
    if (this.dropped === undefined) return 0
    return stream === undefined
      ? this.dropped.reduce((sum, bytes) => sum + bytes, 0)
      : (this.dropped[streams.indexOf(stream)] ?? 0)
  }

  /** Its state, for `restore`. The sections are views of its memory. */
  freeze(writer: ImageWriter): RingState {
    const { bytes, head, size, first, count } = this
    const isWhole = head + size <= bytes.length
    const kept = isWhole ? bytes.subarray(head, head + size) : bytes
    const content = () => ({
      bytes: writer.bytes(kept),
      capacity: kept.length,
      head: isWhole ? 0 : head,
      size,
      seqs: writer.bytes(viewOf(this.seqs)),
      lengths: writer.bytes(viewOf(this.lengths)),
      kinds: writer.bytes(viewOf(this.kinds)),
      first,
      count
    })
    return {
      ...(count === 0 ? {} : { content: content() }),
      dropped: this.dropped === undefined ? [] : Array.from(this.dropped),
      firstDroppedSeq: Number.isFinite(this.earliestDroppedSeq) ? this.earliestDroppedSeq : null,
      lastDroppedSeq: this.latestDroppedSeq,
      lastSeq: this.latestSeq
    }
  }

  /** Whether a ring of this state has the place that it needs in this one. */
  fits({ content }: RingState): boolean {
    return content === undefined || content.capacity <= this.limit
  }

  /** Takes over the state of another ring. This one must be empty. */
  restore(state: RingState, reader: ImageReader): void {
    this.restoreDropped(state)
    const { content } = state
    if (content === undefined) return
    this.budget.makeRoom(content.size)
    this.bytes = reader.bytes(content.bytes)
    this.seqs = new Float64Array(memoryOf(reader.bytes(content.seqs)))
    this.lengths = new Uint32Array(memoryOf(reader.bytes(content.lengths)))
    this.kinds = new Uint8Array(memoryOf(reader.bytes(content.kinds)))
    this.head = content.head
    this.size = content.size
    this.first = content.first
    this.count = content.count
    this.takeNotes()
    this.budget.changed(content.size)
  }

  /** Takes over what another ring has dropped, and the number of its last chunk. */
  restoreDropped({ dropped, firstDroppedSeq, lastDroppedSeq, lastSeq }: RingState): void {
    this.latestSeq = Math.max(this.latestSeq, lastSeq)
    if (firstDroppedSeq === null) return
    this.earliestDroppedSeq = Math.min(this.earliestDroppedSeq, firstDroppedSeq)
    this.latestDroppedSeq = Math.max(this.latestDroppedSeq, lastDroppedSeq)
    this.dropped ??= new Float64Array(streams.length)
    for (const kind of streams.keys()) this.dropped[kind] = (this.dropped[kind] ?? 0) + (dropped[kind] ?? 0)
  }

  /** Frees the memory without counting its content as dropped. */
  clear(): void {
    this.budget.changed(-this.size)
    this.reset()
  }

  /** Drops everything and frees the memory. */
  dropAll(): void {
    while (this.count > 0) this.dropOldest()
    this.reset()
  }

  /** Drops the oldest chunk; the ring must not be empty. */
  dropOldest(): void {
    const length = this.lengths[this.first] ?? 0
    this.drop(this.seqs[this.first] ?? 0, this.kinds[this.first] ?? 0, length)
    this.first = (this.first + 1) % this.seqs.length
    this.count--
    this.head = (this.head + length) % this.bytes.length
    this.size -= length
    this.passed += length
    this.budget.changed(-length)
  }

  private drop(seq: number, kind: number, length: number): void {
    this.earliestDroppedSeq = Math.min(this.earliestDroppedSeq, seq)
    this.latestDroppedSeq = Math.max(this.latestDroppedSeq, seq)
    this.dropped ??= new Float64Array(streams.length)
    this.dropped[kind] = (this.dropped[kind] ?? 0) + length
    this.budget.dropped(length)
  }

  private reset(): void {
    this.bytes = OutputRing.empty.bytes
    this.seqs = OutputRing.empty.seqs
    this.lengths = OutputRing.empty.lengths
    this.kinds = OutputRing.empty.kinds
    this.notes = OutputRing.empty.notes
    this.head = this.size = this.first = this.count = 0
  }

  /** The first chunk after a cursor: its index, and its offset from `head`. */
  private find(afterSeq: number): { index: number; offset: number } {
    const seqAt = (index: number) => this.seqs[(this.first + index) % this.seqs.length] ?? 0
    let index = 0
    let end = this.count
    // Most readers are at the end.
    if (end > 0 && seqAt(end - 1) <= afterSeq) index = end
    while (index < end) {
      const middle = (index + end) >>> 1
      if (seqAt(middle) <= afterSeq) index = middle + 1
      else end = middle
    }
    return { index, offset: index === this.count ? this.size : this.offsetOf(index) }
  }

  /** The offset of a chunk from `head`: that of the note before it, and the lengths since. */
  private offsetOf(index: number): number {
    const slot = (this.first + index) % this.seqs.length
    const since = slot % slotsPerNote
    // The note may lie before the first chunk: then it is old, or that of a new chunk in the same part of the ring.
    let at = Math.max(0, index - since)
    let offset = index < since ? 0 : (this.notes[(slot - since) / slotsPerNote] ?? 0) - this.passed
    for (; at < index; at++) offset += this.lengths[(this.first + at) % this.seqs.length] ?? 0
    return offset
  }

  /** Makes all notes anew: the chunks are in other slots. */
  private takeNotes(): void {
    this.notes = new Float64Array(Math.ceil(this.seqs.length / slotsPerNote))
    let offset = this.passed
    for (let index = 0; index < this.count; index++) {
      const slot = (this.first + index) % this.seqs.length
      if (slot % slotsPerNote === 0) this.notes[slot / slotsPerNote] = offset
      offset += this.lengths[slot] ?? 0
    }
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
      this.takeNotes()
    }
  }
}
