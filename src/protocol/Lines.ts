/**
 * Splits a byte stream into lines.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"

/** The callbacks of a splitter. */
export interface LineEvents {
  /** A line of valid UTF-8, without its newline. Blank lines are skipped. */
  readonly onLine: (text: string) => void
  /** A line that is too long or not UTF-8; `why` is a sentence. */
  readonly onBadLine: (why: string) => void
}

const newline = 10

/**
 * Makes a splitter of lines of at most `limit` bytes. A longer line is reported once, as soon as it exceeds the limit,
 * and skipped. A last line without a newline is never reported.
 */
export const make = (limit: number, { onLine, onBadLine }: LineEvents) => {
  let parts: Array<Buffer> = []
  let length = 0
  let skipping = false

  const finish = (part: Buffer) => {
    const line = parts.length === 0 ? part : Buffer.concat([...parts, part])
    parts = []
    length = 0
    if (!isUtf8(line)) return onBadLine("the line is not valid UTF-8")
    const text = line.toString()
    if (text.trim() !== "") onLine(text)
  }

  return (chunk: Buffer): void => {
    let start = 0
    while (start < chunk.length) {
      const end = chunk.indexOf(newline, start)
      const part = chunk.subarray(start, end === -1 ? chunk.length : end)
      start = end === -1 ? chunk.length : end + 1
      if (!skipping && length + part.length > limit) {
        parts = []
        skipping = true
        onBadLine(`the line is longer than maxMessageBytes (${limit}); send shorter messages or raise the limit`)
      }
      if (end === -1) {
        if (skipping) continue
        // Copy: a view would keep the whole chunk in memory.
        parts.push(Buffer.from(part))
        length += part.length
      } else if (skipping) {
        skipping = false
        length = 0
      } else finish(part)
    }
  }
}
