/**
 * The audit log as a file: one JSON object a line, appended and never rewritten, for nobody else to read.
 *
 * Each line is with the operating system before the client hears of what it says, and so outlives this process. When
 * a line cannot be written, that is logged, and no process is started; ending processes goes on.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync, constants, fchmodSync, fstatSync, openSync, writeSync } from "node:fs"
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

const open = (path: string) =>
  Effect.try({
    try: () => {
      const fd = openSync(path, flags, mode)
      try {
        if (!fstatSync(fd).isFile()) throw new AuditFileError({ message: "it is not a regular file" })
        fchmodSync(fd, mode)
        return fd
      } catch (error) {
        closeSync(fd)
        throw error
      }
    },
    catch: (error) =>
      new AuditFileError({
        message: `cannot open the audit log ${path}: ${error instanceof AuditFileError ? error.message : OsError.describe(error)}`
      })
  })

/** Writes all of a line, or says why not. */
const append = (fd: number, line: string): string | undefined => {
  try {
    let rest = Buffer.from(line)
    while (rest.length > 0) rest = rest.subarray(writeSync(fd, rest))
    return undefined
  } catch (error) {
    return OsError.describe(error)
  }
}

const make = (path: string) =>
  Effect.gen(function* () {
    const fd = yield* Effect.acquireRelease(open(path), (fd) => Effect.sync(() => closeSync(fd)))
    const clock = yield* Effect.clock
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    let failing = false
    // A line that was cut short must not be joined by the next one.
    let torn = false
    return {
      write: ({ sessionId, subject, peer }, { event, ...what }) => {
        const time = new Date(clock.unsafeCurrentTimeMillis()).toISOString()
        const line = JSON.stringify({ time, event, sessionId, subject, peer, ...what })
        const reason = append(fd, `${torn ? "\n" : ""}${line}\n`)
        torn = reason !== undefined
        // Once, not with every attempt.
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
