/**
 * The sizes that a terminal has had, with their places among the numbered events: a reader of retained output must parse
 * each byte at the width that it was written for.
 *
 * A size has no number of its own: it would be a gap in the `seq` that clients see. Its place is after an event: bytes
 * with a higher `seq` were written for it.
 *
 * @since 0.1.0
 */
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { MarksState } from "./ProcessImage.js"

/** A change of the size. */
export interface Mark extends TerminalSize {
  /** The `seq` of the last event before it; 0 if there is none. */
  readonly seq: number
  /** Who changed it: the attachment that drives the terminal, or null for `process/resize`. */
  readonly by: number | null
}

/** The most marks of one process. Beyond it, the oldest ones are forgotten. */
export const maxMarks = 256

/** The sizes of one terminal. */
export class ResizeMarks {
  private readonly marks: Array<Mark>
  /** The size before the first mark. */
  private first: TerminalSize
  private forgotten: number

  /** No marks yet, or those of a process of the version of the server before. */
  constructor(
    initial: TerminalSize,
    { first, forgotten, marks }: MarksState = { first: initial, forgotten: 0, marks: [] }
  ) {
    this.first = first
    this.forgotten = forgotten
    this.marks = [...marks]
  }

  /** Its state. */
  freeze(): MarksState {
    const { first, forgotten, marks } = this
    return { first, forgotten, marks: [...marks] }
  }

  /** The number of marks so far, the forgotten ones included. */
  get count(): number {
    return this.forgotten + this.marks.length
  }

  /** Adds a change after the event `seq`, which is not before that of an earlier mark. */
  add(mark: Mark): void {
    this.marks.push(mark)
    if (this.marks.length <= maxMarks) return
    const [oldest] = this.marks.splice(0, 1)
    if (oldest !== undefined) this.first = { rows: oldest.rows, cols: oldest.cols }
    this.forgotten++
  }

  /** The size for which the bytes right after the event `seq` were written. */
  sizeAfter(seq: number): TerminalSize {
    const { rows, cols } = this.marks.findLast((mark) => mark.seq <= seq) ?? this.first
    return { rows, cols }
  }

  /** How many marks are not after the event `seq`, the forgotten ones included. */
  countThrough(seq: number): number {
    return this.forgotten + this.marks.filter((mark) => mark.seq <= seq).length
  }

  /** The mark with this index, counted from the first one; undefined if it is forgotten or not there yet. */
  at(index: number): Mark | undefined {
    return this.marks[index - this.forgotten]
  }

  /** The index of the oldest mark that is still known. */
  get oldest(): number {
    return this.forgotten
  }
}
