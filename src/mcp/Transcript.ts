/**
 * The output of one command as plain text: its beginning and its end are kept, up to a limit. Offsets are bytes of
 * UTF-8 from the first one.
 *
 * Output is kept line by line. The last line, which may still be drawn again, is plain text only while somebody looks.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { OutputBudget } from "./OutputBudget.js"
import * as PlainOutput from "./PlainOutput.js"

/** The most kept output of a command, in bytes, and how much of it is its beginning. */
const maxBytes = 16 * 1048576
const maxHeadBytes = 1048576

/** The size of a full block, in bytes. */
const blockBytes = 65536

/** A line that is longer is kept in pieces of this size, in bytes. */
const maxLineBytes = 65536

const newline = 0x0a

/** Control characters in the bytes of UTF-8; those of C1 have two. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const needsCleaning = /[\u0000-\u0008\u000b-\u001f\u007f]|\u00c2[\u0080-\u009f]/

/** A control sequence that may go on, at the end of a piece. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence
const unfinishedSequence = /\u001b(?:\[[0-?]*[ -/]*|\][^\u0007\u001b]*\u001b?)?$/

/** The longest such sequence that is waited for, in bytes. */
const maxSequenceBytes = 256

/** How many newlines there are. */
const newlinesIn = (bytes: Buffer): number => {
  let count = 0
  for (let at = bytes.indexOf(newline); at !== -1; at = bytes.indexOf(newline, at + 1)) count++
  return count
}

/** Output that follows other output, in memory that grows with it. */
class Block {
  private memory: Buffer
  length = 0
  newlines = 0

  constructor(
    readonly offset: number,
    /** How many newlines are before it. */
    readonly newlinesBefore: number,
    capacity: number,
    private readonly budget: OutputBudget
  ) {
    this.memory = Buffer.allocUnsafe(capacity)
    budget.take(capacity)
  }

  /** Gives its memory back. */
  free(): void {
    this.budget.give(this.memory.length)
  }

  get bytes(): Buffer {
    return this.memory.subarray(0, this.length)
  }

  /** Takes what fits, and returns how much. */
  take(bytes: Buffer): number {
    const taken = bytes.subarray(0, blockBytes - this.length)
    const needed = this.length + taken.length
    if (needed > this.memory.length) {
      const larger = Buffer.allocUnsafe(Math.min(blockBytes, Math.max(needed, this.memory.length * 2)))
      this.bytes.copy(larger)
      this.budget.take(larger.length - this.memory.length)
      this.memory = larger
    }
    taken.copy(this.memory, this.length)
    this.length = needed
    this.newlines += newlinesIn(taken)
    return taken.length
  }
}

/** A range of output that is kept. */
export interface Kept {
  readonly from: number
  /** The first byte after it. */
  readonly to: number
}

/** The output of one command as plain text. */
export class Transcript {
  private readonly head: Array<Block> = []
  private readonly tail: Array<Block> = []
  private tailBytes = 0
  /** The last line, as it came. */
  private pending: Array<Buffer> = []
  private pendingBytes = 0
  private shown: Buffer | undefined

  private isFree = false

  constructor(private readonly budget: OutputBudget) {}

  /** Gives its memory back; nothing is kept any more. */
  free(): void {
    this.isFree = true
    for (const block of this.blocks()) block.free()
    this.head.length = 0
    this.tail.length = 0
  }

  /** Adds output. */
  push(chunk: Buffer): void {
    if (this.isFree) return
    this.shown = undefined
    const end = chunk.lastIndexOf(newline) + 1
    if (end > 0) {
      const lines = chunk.subarray(0, end)
      this.keep(this.pendingBytes === 0 ? lines : Buffer.concat([...this.pending, lines]))
      this.pending = []
      this.pendingBytes = 0
    }
    if (end === chunk.length) return
    this.pending.push(chunk.subarray(end))
    this.pendingBytes += chunk.length - end
    if (this.pendingBytes >= maxLineBytes) this.keepPieces()
  }

  /** How much output there was, in bytes. */
  get length(): number {
    return this.keptLength + this.lastLineBytes.length
  }

  /** The last line that has a text. */
  get lastLine(): string {
    const text = this.slice(Math.max(0, this.length - 1024), this.length).toString()
    return text.trimEnd().split("\n").at(-1) ?? ""
  }

  /** The number of newlines before an offset; for one that is not kept, those before the next kept one. */
  newlinesBefore(offset: number): number {
    const block = this.blocks().findLast((one) => one.offset <= offset)
    if (block === undefined) return 0
    if (offset >= block.offset + block.length) return block.newlinesBefore + block.newlines
    return block.newlinesBefore + newlinesIn(block.bytes.subarray(0, offset - block.offset))
  }

  /** The ranges that are kept: one, or the beginning and the end. */
  get kept(): ReadonlyArray<Kept> {
    const lastHead = this.head.at(-1)
    const [firstTail] = this.tail
    const headEnd = lastHead === undefined ? 0 : lastHead.offset + lastHead.length
    if (firstTail === undefined || firstTail.offset === headEnd) return [{ from: 0, to: this.length }]
    return [
      { from: 0, to: headEnd },
      { from: firstTail.offset, to: this.length }
    ]
  }

  /** The kept bytes of a range: those that are no longer kept are left out. */
  slice(from: number, to: number): Buffer {
    const parts: Array<Buffer> = []
    for (const { offset, length, bytes } of this.blocks()) {
      if (offset < to && offset + length > from) parts.push(bytes.subarray(Math.max(0, from - offset), to - offset))
    }
    const start = this.keptLength
    if (to > start) parts.push(this.lastLineBytes.subarray(Math.max(0, from - start), to - start))
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)
  }

  /** The end of the complete lines: what is before it does not change any more. */
  get keptLength(): number {
    const last = this.tail.at(-1) ?? this.head.at(-1)
    return last === undefined ? 0 : last.offset + last.length
  }

  /** The last line, which has no newline yet. */
  private get lastLineBytes(): Buffer {
    if (this.pendingBytes === 0) return Buffer.alloc(0)
    this.shown ??= Buffer.from(PlainOutput.clean(Buffer.concat(this.pending).toString()))
    return this.shown
  }

  private blocks(): ReadonlyArray<Block> {
    return this.tail.length === 0 ? this.head : [...this.head, ...this.tail]
  }

  /** Keeps lines, or pieces of one. */
  private keep(lines: Buffer): void {
    let rest = needsCleaning.test(lines.toString("latin1")) ? Buffer.from(PlainOutput.clean(lines.toString())) : lines
    while (rest.length > 0) rest = rest.subarray(this.blockFor(rest.length).take(rest))
    while (this.tailBytes > maxBytes - maxHeadBytes || (this.budget.isExceeded && this.tail.length > 1)) {
      const oldest = this.tail.shift()
      this.tailBytes -= oldest?.length ?? 0
      oldest?.free()
    }
  }

  /** The block that takes what comes next. */
  private blockFor(length: number): Block {
    const last = this.tail.at(-1) ?? this.head.at(-1)
    const isInHead = this.tail.length === 0
    if (last !== undefined && last.length < blockBytes) {
      if (!isInHead) this.tailBytes += Math.min(length, blockBytes - last.length)
      return last
    }
    const offset = last === undefined ? 0 : last.offset + last.length
    const block = new Block(
      offset,
      last === undefined ? 0 : last.newlinesBefore + last.newlines,
      Math.min(blockBytes, Math.max(1024, length)),
      this.budget
    )
    if (isInHead && offset < maxHeadBytes && !this.budget.isExceeded) this.head.push(block)
    else {
      this.tail.push(block)
      this.tailBytes += Math.min(length, blockBytes)
    }
    return block
  }

  /** Keeps the beginning of a long line, up to the end of a character and of a control sequence. */
  private keepPieces(): void {
    const bytes = Buffer.concat(this.pending)
    let end = bytes.length
    // A character has at most three bytes after its first one.
    for (let back = 1; back <= 3; back++) {
      const byte = bytes[bytes.length - back] ?? 0
      if (byte >= 0xc0) end = bytes.length - back
      if (byte >= 0xc0 || byte < 0x80) break
    }
    const last = bytes.toString("latin1", end - maxSequenceBytes, end)
    end -= unfinishedSequence.exec(last)?.[0].length ?? 0
    this.keep(bytes.subarray(0, end))
    this.pending = end === bytes.length ? [] : [bytes.subarray(end)]
    this.pendingBytes = bytes.length - end
  }
}
