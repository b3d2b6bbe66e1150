/**
 * The audit log as a file: one JSON object a line, appended and never rewritten, for nobody else to read.
 *
 * Log rotation renames the file: the next line is the first one of a new file. How large the file becomes, and how many are
 * kept, is for the rotation to say (`logrotate`, without `copytruncate`).
 *
 * Each line is with the operating system before the client hears of what it says, and so outlives this process. When
 * a line cannot be written, that is logged, and no process is started; ending processes goes on.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync, constants, fchmodSync, fstatSync, openSync, statSync, writeSync } from "node:fs"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as OsError from "../protocol/OsError.js"
import { AuditLog, type Shape } from "../session/AuditLog.js"

/**
 * The file cannot be opened, or is not one to append to; the message says which one, and why.
 *
 * @category errors
 */
export class AuditFileError extends Data.TaggedError("AuditFileError")<{ readonly message: string }> {}

/** Only this user reads or writes it. */
const mode = 0o600

const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK

const openNow = (path: string): number => {
  const fd = openSync(path, flags, mode)
  try {
    if (!fstatSync(fd).isFile()) throw new AuditFileError({ message: "it is not a regular file" })
    fchmodSync(fd, mode)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

const open = (path: string) =>
  Effect.try({
    try: () => openNow(path),
    catch: (error) =>
      new AuditFileError({
        message: `cannot open the audit log ${path}: ${error instanceof AuditFileError ? error.message : OsError.describe(error)}`
      })
  })

/** The longest string in a line, in characters: clients choose the length of ids and programs. */
const maxText = 1024

const clipped = (_: string, value: unknown): unknown =>
  typeof value === "string" && value.length > maxText ? `${value.slice(0, maxText)}...` : value

/** Whether a descriptor is still the file at a path: log rotation renames it, and expects a new one. */
const isCurrent = (fd: number, path: string): boolean => {
  const [at, open] = [statSync(path, { throwIfNoEntry: false }), fstatSync(fd)]
  return at !== undefined && at.ino === open.ino && at.dev === open.dev
}

/** The file; it is reopened after it was renamed or removed. */
interface Opened {
  fd: number
}

/** Writes a whole line, or returns the reason why it could not. */
const append = (opened: Opened, path: string, line: string): string | undefined => {
  try {
    if (!isCurrent(opened.fd, path)) {
      const next = openNow(path)
      closeSync(opened.fd)
      opened.fd = next
    }
    let rest = Buffer.from(line)
    while (rest.length > 0) rest = rest.subarray(writeSync(opened.fd, rest))
    return undefined
  } catch (error) {
    return OsError.describe(error)
  }
}

const make = (path: string) =>
  Effect.gen(function* () {
    const opened = yield* Effect.acquireRelease(
      Effect.map(open(path), (fd): Opened => ({ fd })),
      ({ fd }) => Effect.sync(() => closeSync(fd))
    )
    const clock = yield* Effect.clock
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    let failing = false
    // A line that was cut short must not be joined by the next one.
    let torn = false
    return {
      write: ({ sessionId, subject, peer }, { event, ...what }) => {
        const time = new Date(clock.unsafeCurrentTimeMillis()).toISOString()
        const line = JSON.stringify({ time, event, sessionId, subject, peer, ...what }, clipped)
        const reason = append(opened, path, `${torn ? "\n" : ""}${line}\n`)
        torn = reason !== undefined
        // Logged once, not on every attempt.
        if (reason !== undefined && !failing) {
          runFork(
            Effect.logError(`the audit log ${path} cannot be written: ${reason}; no process is started until it can`)
          )
        }
        if (reason === undefined && failing) runFork(Effect.logWarning(`the audit log ${path} is written again`))
        failing = reason !== undefined
        return reason
      }
    } satisfies Shape
  })

/**
 * The audit log in this file, which must be a regular one and gets the mode 0600.
 *
 * @category layers
 */
export const layer = (path: string): Layer.Layer<never, AuditFileError> => Layer.scoped(AuditLog, make(path))
