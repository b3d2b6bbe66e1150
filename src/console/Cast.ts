/**
 * Recordings in the format asciicast, of versions 2 and 3.
 *
 * @since 0.1.0
 */
import type { Size } from "./Wire.js"

/** An event: output `o`, input `i`, a resize `r`, a marker `m`, the exit `x`. */
export interface CastEvent {
  /** From the beginning. */
  readonly atMs: number
  readonly code: string
  readonly data: string
}

/** A recording. */
export interface Cast {
  readonly size: Size
  readonly title: string
  readonly startedAtMs: number | undefined
  readonly events: ReadonlyArray<CastEvent>
  readonly durationMs: number
}

const parse = (line: string): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value)

/** The most cells of a terminal in one direction. */
const maxCells = 1000

const sizeOf = (cols: unknown, rows: unknown): Size | undefined => {
  const isSize = (cells: unknown): cells is number => isNumber(cells) && cells >= 1 && cells <= maxCells
  return isSize(cols) && isSize(rows) ? { cols, rows } : undefined
}

/** The size in the data of a resize; undefined if it is none. */
export const readSize = (data: string): Size | undefined => {
  const [cols, rows] = data.split("x").map(Number)
  return sizeOf(cols, rows)
}

/** Reads a recording piece by piece, as it arrives. */
export class Reader {
  private rest = ""
  private version = 3
  private header: Omit<Cast, "events" | "durationMs"> | undefined
  private readonly events: Array<CastEvent> = []
  private atMs = 0

  /** Takes the next piece of the file. Fails if it begins with no header. */
  push(text: string): void {
    const lines = (this.rest + text).split("\n")
    this.rest = lines.pop() ?? ""
    for (const line of lines) this.take(line)
  }

  /** What was read; the last line counts only if it is complete. */
  end(): Cast {
    if (this.rest !== "") this.take(this.rest)
    this.rest = ""
    if (this.header === undefined) throw new Error("this recording is empty")
    return { ...this.header, events: this.events, durationMs: this.atMs }
  }

  private take(line: string): void {
    if (this.header === undefined) this.header = this.readHeader(line)
    else if (line !== "" && !line.startsWith("#")) this.readEvent(line)
  }

  private readHeader(line: string): NonNullable<typeof this.header> {
    const value = parse(line)
    if (!isRecord(value) || (value["version"] !== 2 && value["version"] !== 3)) {
      throw new Error("this is not a recording: it has no header of an asciicast of version 2 or 3")
    }
    this.version = value["version"]
    const term = isRecord(value["term"]) ? value["term"] : {}
    const size = this.version === 2 ? sizeOf(value["width"], value["height"]) : sizeOf(term["cols"], term["rows"])
    if (size === undefined) throw new Error("this recording has no valid size of its terminal")
    const { title, command, timestamp } = value
    const name = [command, title].find((one) => typeof one === "string" && one !== "")
    return {
      size,
      title: typeof name === "string" ? name : "",
      startedAtMs: isNumber(timestamp) ? timestamp * 1000 : undefined
    }
  }

  private readEvent(line: string): void {
    const value = parse(line)
    if (!Array.isArray(value)) return
    const [time, code, data] = value
    if (!isNumber(time) || typeof code !== "string" || typeof data !== "string") return
    // Version 2 counts from the beginning, version 3 from the event before.
    this.atMs = Math.max(this.atMs, this.version === 2 ? time * 1000 : this.atMs + time * 1000)
    this.events.push({ atMs: this.atMs, code, data })
  }
}
