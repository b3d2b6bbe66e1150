/**
 * Formats tables, durations and sizes for people.
 *
 * @since 0.1.0
 */
import * as PlainText from "../internal/PlainText.js"

/** The widest column, in characters. A longer cell shifts only the rest of its own row. */
const maxWidth = 64

/** Formats rows below a header, in aligned columns of at most 64 characters. */
export const format = (header: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const lines = [header, ...rows.map((row) => row.map(PlainText.plain))]
  const widths = header.map((_, column) =>
    lines.reduce((widest, line) => Math.min(maxWidth, Math.max(widest, line[column]?.length ?? 0)), 0)
  )
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()
    )
    .map((line) => `${line}\n`)
    .join("")
}

/** Formats a duration in milliseconds as "5 s", "5 min", "5 h" or "5 d". */
export const duration = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`
}

/** Formats a number of bytes with a binary unit, such as "1.5 MiB". */
export const bytes = (count: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10))
  return `${power === 0 ? count : (count / 1024 ** power).toFixed(1)} ${units[power]}`
}
