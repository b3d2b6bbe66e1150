/**
 * Numbers and times for people.
 *
 * @since 0.1.0
 */
import type { Exit } from "./Wire.js"

const units = ["B", "kB", "MB", "GB", "TB"]

/** A size in bytes. */
export const bytes = (count: number): string => {
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** A duration: its two largest units. */
export const duration = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`
}

/** A duration as a clock shows it. */
export const clock = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const pad = (value: number) => String(value).padStart(2, "0")
  const hours = Math.floor(seconds / 3600)
  const rest = `${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`
  return hours > 0 ? `${hours}:${rest}` : rest
}

/** A time of day, with the date if it is another day. */
export const time = (atMs: number, nowMs: number): string => {
  const at = new Date(atMs)
  const isToday = at.toDateString() === new Date(nowMs).toDateString()
  return isToday ? at.toLocaleTimeString() : at.toLocaleString()
}

/** Percent of one core. */
export const percent = (value: number): string => `${value >= 10 ? Math.round(value) : value.toFixed(1)} %`

/** The path of a file URI; other texts as they are. */
export const path = (uri: string): string =>
  uri.startsWith("file://") ? decodeURIComponent(new URL(uri).pathname) : uri

/** How a process ended, in full. */
export const exit = ({ exitCode, signal, timedOut, sandboxDenied }: Exit): string => {
  const how =
    signal !== null && signal !== undefined
      ? `killed by ${signal} (status ${exitCode})`
      : `exited with status ${exitCode}`
  return `${how}${timedOut === true ? ", its time limit had passed" : ""}${
    sandboxDenied === true ? ", probably stopped by its sandbox" : ""
  }`
}
