/**
 * Search in the lines of a terminal.
 *
 * @since 0.1.0
 */
import type { IBuffer, IBufferLine } from "@xterm/xterm"

/** A place in the buffer, in cells. */
export interface Place {
  readonly row: number
  readonly col: number
  readonly cells: number
}

/** The text of a line in lower case, and the column of each of its characters. */
const read = (line: IBufferLine) => {
  let text = ""
  const columns: Array<number> = []
  for (let col = 0; col < line.length; col++) {
    const cell = line.getCell(col)
    if (cell === undefined || cell.getWidth() === 0) continue
    const characters = (cell.getChars() || " ").toLowerCase()
    text += characters
    for (let i = 0; i < characters.length; i++) columns.push(col)
  }
  columns.push(line.length)
  return { text, columns }
}

/** All places of a text, in order, regardless of case; at most `limit`. */
export const places = (buffer: IBuffer, wanted: string, limit = 10_000): ReadonlyArray<Place> => {
  const found: Array<Place> = []
  const needle = wanted.toLowerCase()
  if (needle === "") return found
  for (let row = 0; row < buffer.length && found.length < limit; row++) {
    const line = buffer.getLine(row)
    if (line === undefined) continue
    const { text, columns } = read(line)
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) {
      const col = columns[at] ?? 0
      found.push({ row, col, cells: (columns[at + needle.length] ?? line.length) - col })
    }
  }
  return found
}
