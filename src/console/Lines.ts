/**
 * The lines of stdout and stderr, in the order in which they came.
 *
 * @since 0.1.0
 */
import type { StreamName } from "./Frames.js"

/** One line, or output that is missing. */
export interface Line {
  readonly number: number
  readonly stream: StreamName | "gap"
  readonly text: string
}

/**
 * The most lines that are kept, and the most characters of one and of all; longer lines are continued on the next.
 */
const limits = { lines: 50_000, characters: 4000, total: 16_000_000 }

/** Escape sequences: colours and the like, which are not drawn. */
const escapes =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)|[ -/]*[0-~])/g

/** A line as it is shown. */
export const textOf = (text: string): string => text.replace(escapes, "")

interface OpenLine {
  number: number
  stream: Line["stream"]
  text: string
}

/** Collects lines. */
export class Lines {
  private all: Array<OpenLine> = []
  private readonly open = new Map<StreamName, OpenLine>()
  private readonly decoders = new Map<StreamName, TextDecoder>()
  private lastNumber = 0
  /** The characters that were added since the list was last cut, and those that were there then: not less than there are. */
  private size = 0

  /** The lines that are kept. */
  get list(): ReadonlyArray<Line> {
    return this.all
  }

  /** Adds output. */
  add(stream: StreamName, bytes: Uint8Array): void {
    const decoder = this.decoders.get(stream) ?? new TextDecoder()
    this.decoders.set(stream, decoder)
    const pieces = decoder.decode(bytes, { stream: true }).split("\n")
    pieces.forEach((piece, i) => {
      if (piece !== "" || i < pieces.length - 1) this.extend(stream, piece)
      this.size += piece.length
      if (i < pieces.length - 1) this.open.delete(stream)
    })
    this.trim()
  }

  /** Notes that output is missing. */
  gap(bytes: number): void {
    this.open.clear()
    this.append("gap", bytes > 0 ? `${bytes} bytes of output are missing here` : "output is missing here")
  }

  /** Forgets all. */
  clear(): void {
    this.all = []
    this.size = 0
    this.open.clear()
    this.decoders.clear()
  }

  private append(stream: Line["stream"], text: string): OpenLine {
    const line = { number: ++this.lastNumber, stream, text }
    this.all.push(line)
    return line
  }

  private extend(stream: StreamName, piece: string): void {
    let line = this.open.get(stream) ?? this.append(stream, "")
    this.open.set(stream, line)
    let text = line.text + piece
    while (text.length > limits.characters) {
      line.text = text.slice(0, limits.characters)
      text = text.slice(limits.characters)
      line = this.append(stream, "")
      this.open.set(stream, line)
    }
    // A carriage return begins the line anew, as progress bars do.
    const at = text.replace(/\r+$/, "").lastIndexOf("\r")
    line.text = at < 0 ? text : text.slice(at + 1)
  }

  private trim(): void {
    // Seldom, and many at a time.
    if (this.all.length <= limits.lines * 1.2 && this.size <= limits.total * 1.2) return
    let from = this.all.length
    let size = 0
    for (; from > 0 && this.all.length - from < limits.lines; from--) {
      const { length } = this.all[from - 1]?.text ?? ""
      if (size + length > limits.total) break
      size += length
    }
    this.all = this.all.slice(from)
    this.size = size
  }
}
