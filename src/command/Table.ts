/**
 * What commands print: columns for people, JSON for programs.
 *
 * @since 0.1.0
 */
import * as PlainText from "../internal/PlainText.js"

/** The widest column, in characters: a longer cell moves what is right of it, in its own row alone. */
const maxWidth = 64

/** Rows under a header, in columns as wide as their widest cell, up to 64 characters. */
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

/** How long something has taken, in the largest unit that says enough. */
export const duration = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`
}

/** A number of bytes, in the largest unit that says enough. */
export const bytes = (count: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10))
  return `${power === 0 ? count : (count / 1024 ** power).toFixed(1)} ${units[power]}`
}
