/**
 * The journal of systemd: what goes to it has its time already, and tells its priority at the beginning of a line.
 *
 * @since 0.1.0
 */
import { fstatSync } from "node:fs"

/** Priorities of syslog(3). */
export type Priority = 2 | 3 | 4 | 5 | 6 | 7

const isConnected = (): boolean => {
  const stream = process.env["JOURNAL_STREAM"]
  if (stream === undefined) return false
  try {
    const { dev, ino } = fstatSync(2, { bigint: true })
    return stream === `${dev}:${ino}`
  } catch {
    return false
  }
}

let known: boolean | undefined

/** Whether stderr goes to the journal: the variable is inherited, also by those whose stderr goes elsewhere. */
export const isStderr = (): boolean => {
  known ??= isConnected()
  return known
}

/** What a line on stderr begins with. */
export const prefix = (priority: Priority): string => (isStderr() ? `<${priority}>` : "")
