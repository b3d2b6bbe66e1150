/**
 * The retained output of processes, as chunks with sequence numbers: the newest bytes of each, or its beginning and its
 * end.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import type { Gap, Omission, OutputChunk, OutputStream } from "../protocol/ExecApi.js"
import { type Budget, forEachChunk, OutputRing } from "./OutputRing.js"
import type { OutputState } from "./ProcessImage.js"
import { ProcessLimits } from "./ProcessLimits.js"
import * as ProcessMetrics from "./ProcessMetrics.js"

/**
 * Chunks after a cursor.
 *
 * @category models
 */
export interface Selection {
  readonly chunks: ReadonlyArray<OutputChunk>
  /** Whether `maxBytes` or `maxChunks` held back a chunk. */
  readonly cut: boolean
}

/**
 * The retained output of one process.
 *
 * @category models
 */
export interface RetainedOutput {
  /** The largest chunk that should be appended whole, in bytes. Split larger ones. */
  readonly maxChunkBytes: number
  /** Copies a chunk; whole chunks are dropped to make room. `seq` is above that of every earlier chunk. */
  readonly append: (seq: number, stream: OutputStream, bytes: Buffer) => void
  /** The oldest retained chunks after `afterSeq`, up to `maxBytes` and `maxChunks`; the first one of any size. */
  readonly select: (afterSeq: number, maxBytes: number, maxChunks?: number) => Selection
  /** Whether a chunk was appended after `afterSeq`, even if it was dropped since. */
  readonly hasAfter: (afterSeq: number) => boolean
  /** How many bytes are retained after `afterSeq`. */
  readonly bytesAfter: (afterSeq: number) => number
  /** All retained bytes of one stream. */
  readonly concat: (stream: OutputStream) => Buffer
  /** How much of one stream was dropped, and at which position of `concat`; undefined if nothing was. */
  readonly omission: (stream: OutputStream) => Omission | undefined
  /** All that was dropped, of any stream; undefined if nothing was. */
  readonly gap: () => Gap | undefined
  /** Ends appending: when memory is short, sealed outputs are dropped first. */
  readonly seal: () => void
  /** Frees the memory. Later chunks are not retained. */
  readonly release: () => void
  /** Its state, for `adopt`: views of its memory. Has no effect. */
  readonly freeze: (writer: ImageWriter) => OutputState
}

/** The outputs that share one memory budget. */
class Pool implements Budget {
  private total = 0
  private readonly live = new Set<Store>()
  private readonly sealed = new Set<Store>()

  constructor(private readonly limit: number) {}

  add(store: Store): void {
    this.live.add(store)
  }

  seal(store: Store): void {
    if (this.live.delete(store)) this.sealed.add(store)
  }

  remove(store: Store): void {
    this.live.delete(store)
    this.sealed.delete(store)
  }

  changed(bytes: number): void {
    this.total += bytes
  }

  dropped(bytes: number): void {
    ProcessMetrics.droppedBytes.unsafeUpdate(bytes, [])
  }

  makeRoom(bytes: number): void {
    const isEnough = () => this.total + bytes <= this.limit
    for (const store of this.sealed) {
      if (isEnough()) return
      store.dropAll()
      this.sealed.delete(store)
    }
    for (const store of this.live) while (!isEnough() && store.retained > 0) store.dropOne()
  }
}

/** The state of an empty ring. */
const none = { dropped: [], firstDroppedSeq: null, lastDroppedSeq: 0, lastSeq: 0 }

/** The output of one process, in one or more rings. */
abstract class Store implements RetainedOutput {
  private released = false
  private sealed = false

  constructor(
    private readonly pool: Pool,
    private readonly retain: OutputState["retain"]
  ) {
    pool.add(this)
  }

  /** Unlimited: the protocol limits chunks. */
  readonly maxChunkBytes: number = Number.POSITIVE_INFINITY

  /** Whether all further output goes to the last ring. */
  protected isHeadFull = false
  /** In the order of their chunks. */
  protected abstract readonly rings: ReadonlyArray<OutputRing>
  protected abstract ringFor(length: number): OutputRing
  /** Drops the next chunk to go. The store must not be empty. */
  abstract dropOne(): void

  get retained(): number {
    return this.sum((ring) => ring.retained)
  }

  append(seq: number, stream: OutputStream, bytes: Buffer): void {
    if (!this.released) this.ringFor(bytes.length).append(seq, stream, bytes)
  }

  select(afterSeq: number, maxBytes: number, maxChunks: number = Number.POSITIVE_INFINITY): Selection {
    const chunks: Array<OutputChunk> = []
    const cut = this.rings.some((ring) => ring.collect(afterSeq, maxBytes, maxChunks, chunks))
    return { chunks, cut }
  }

  bytesAfter(afterSeq: number): number {
    return this.sum((ring) => ring.bytesAfter(afterSeq))
  }

  hasAfter(afterSeq: number): boolean {
    return this.rings.some((ring) => ring.lastSeq > afterSeq)
  }

  concat(stream: OutputStream): Buffer {
    return Buffer.concat(this.rings.map((ring) => ring.concat(stream)))
  }

  omission(stream: OutputStream): Omission | undefined {
    const bytes = this.sum((ring) => ring.droppedBytes(stream))
    // Dropped chunks lie before the last ring.
    const offset = this.rings.slice(0, -1).reduce((sum, ring) => sum + ring.lengthOf(stream), 0)
    return bytes === 0 ? undefined : { offset, bytes }
  }

  gap(): Gap | undefined {
    const bytes = this.sum((ring) => ring.droppedBytes())
    if (bytes === 0) return undefined
    const fromSeq = Math.min(...this.rings.map((ring) => ring.firstDroppedSeq))
    const throughSeq = Math.max(...this.rings.map((ring) => ring.lastDroppedSeq))
    return { fromSeq, throughSeq, bytes }
  }

  seal(): void {
    this.sealed = true
    this.pool.seal(this)
  }

  freeze(writer: ImageWriter): OutputState {
    const { retain, isHeadFull, released, sealed } = this
    return { retain, rings: this.rings.map((ring) => ring.freeze(writer)), isHeadFull, released, sealed }
  }

  /** Takes over the output of a process of the version before, as far as the limits permit. */
  restore(state: OutputState, reader: ImageReader): void {
    const { rings } = this
    const isAlike = state.retain === this.retain && state.rings.length === rings.length
    const [first] = rings
    const wasCut = state.rings.some(({ firstDroppedSeq }) => firstDroppedSeq !== null)
    if (isAlike && rings.every((ring, index) => ring.fits(state.rings[index] ?? none))) {
      this.isHeadFull = state.isHeadFull
      for (const [index, ring] of rings.entries()) ring.restore(state.rings[index] ?? none, reader)
    } else {
      this.isHeadFull = wasCut
      for (const ring of state.rings) {
        first?.restoreDropped({ ...ring, lastSeq: 0 })
        forEachChunk(ring, reader, (seq, stream, bytes) => this.append(seq, stream, bytes))
        rings.at(-1)?.restoreDropped({ ...none, lastSeq: ring.lastSeq })
      }
    }
    if (state.sealed) this.seal()
    if (state.released) this.release()
  }

  release(): void {
    this.released = true
    this.pool.remove(this)
    for (const ring of this.rings) ring.clear()
  }

  dropAll(): void {
    for (const ring of this.rings) ring.dropAll()
  }

  private sum(of: (ring: OutputRing) => number): number {
    return this.rings.reduce((sum, ring) => sum + of(ring), 0)
  }
}

/** Keeps the newest bytes. */
class Tail extends Store {
  protected readonly rings: readonly [OutputRing]

  constructor(pool: Pool, limit: number) {
    super(pool, "tail")
    this.rings = [new OutputRing(limit, pool)]
  }

  protected ringFor(): OutputRing {
    return this.rings[0]
  }

  override dropOne(): void {
    this.rings[0].dropOldest()
  }
}

/** Chunks are retained whole. At least this many must fit, or little of the beginning and the end would be kept. */
const minChunks = 16

/** The smallest piece of a chunk, in bytes: each is a message of its own. */
const minPieceBytes = 64

/**
 * Keeps the beginning and the end, each up to half of the limit. There is at most one gap, between them: after the
 * first drop, the beginning does not grow any more.
 */
class HeadTail extends Store {
  override readonly maxChunkBytes: number
  protected readonly rings: readonly [head: OutputRing, tail: OutputRing]

  constructor(pool: Pool, limit: number) {
    super(pool, "head-tail")
    this.maxChunkBytes = Math.max(minPieceBytes, Math.floor(limit / minChunks))
    this.rings = [new OutputRing(Math.ceil(limit / 2), pool), new OutputRing(Math.floor(limit / 2), pool)]
  }

  protected ringFor(length: number): OutputRing {
    const [head, tail] = this.rings
    this.isHeadFull ||= !head.hasRoomFor(length)
    return this.isHeadFull ? tail : head
  }

  override dropOne(): void {
    const [, tail] = this.rings
    if (tail.retained > 0) tail.dropOldest()
    else this.dropAll()
  }

  override dropAll(): void {
    super.dropAll()
    this.isHeadFull = true
  }
}

const make = (Kind: new (pool: Pool, limit: number) => Store) =>
  Effect.map(ProcessLimits, ({ retainedOutputBytesPerProcess, retainedOutputBytesTotal }) => {
    const pool = new Pool(retainedOutputBytesTotal)
    const fresh = () => new Kind(pool, retainedOutputBytesPerProcess)
    return {
      make: Effect.sync((): RetainedOutput => fresh()),
      adopt: (state: OutputState, reader: ImageReader): RetainedOutput => {
        const output = fresh()
        output.restore(state, reader)
        return output
      }
    }
  })

/**
 * Makes the retained outputs of processes, within `retainedOutputBytesPerProcess` and `retainedOutputBytesTotal`.
 *
 * @category tags
 */
export class OutputBuffer extends Context.Tag("exec-server/OutputBuffer")<
  OutputBuffer,
  {
    readonly make: Effect.Effect<RetainedOutput>
    /** The output of a process of the version of the server before, as far as the limits permit. It is not copied. */
    readonly adopt: (state: OutputState, reader: ImageReader) => RetainedOutput
  }
>() {
  /** Keeps the newest output of each process. */
  static readonly layerTail: Layer.Layer<OutputBuffer> = Layer.effect(OutputBuffer, make(Tail))

  /** Keeps the beginning and the end of each process's output, and drops the middle. */
  static readonly layerHeadTail: Layer.Layer<OutputBuffer> = Layer.effect(OutputBuffer, make(HeadTail))

  /** Keeps what the `retain` limit says. */
  static readonly layer: Layer.Layer<OutputBuffer> = Layer.effect(
    OutputBuffer,
    Effect.flatMap(ProcessLimits, ({ retain }) => make(retain === "head-tail" ? HeadTail : Tail))
  )
}

/**
 * Keeps what the `retain` limit says.
 *
 * @category layers
 */
export const layer: Layer.Layer<OutputBuffer> = OutputBuffer.layer

/**
 * Keeps the newest output of each process, whatever the limit `retain` says.
 *
 * @category layers
 */
export const layerTail: Layer.Layer<OutputBuffer> = OutputBuffer.layerTail

/**
 * Keeps the beginning and the end of each process's output, whatever the limit `retain` says.
 *
 * @category layers
 */
export const layerHeadTail: Layer.Layer<OutputBuffer> = OutputBuffer.layerHeadTail
