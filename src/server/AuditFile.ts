/**
 * The audit log as a file, with one JSON object per line. It is only appended to, and only this user can access it.
 *
 * A file that has reached the limit is renamed to `.1`, in place of the previous one, and a new one is started. Other log
 * rotation may rename it as well (`logrotate`, without `copytruncate`).
 *
 * Each line is handed to the operating system before the client gets the response, so it survives a crash of the
 * server. If a line cannot be written, this is logged and starts are refused; ending processes still works.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync, constants, fchmodSync, fstatSync, openSync, renameSync, statSync, writeSync } from "node:fs"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as PlainText from "../internal/PlainText.js"
import * as OsError from "../protocol/OsError.js"
import { AuditLog, type Shape } from "../session/AuditLog.js"

/**
 * The file cannot be opened or appended to. The message says which one, and why.
 *
 * @category errors
 */
export class AuditFileError extends Data.TaggedError("AuditFileError")<{ readonly message: string }> {}

/**
 * The size at which a new file is started, in bytes.
 *
 * @category constants
 */
export const defaultMaxBytes = 67108864

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

/** Whether the next line goes to another file: log rotation has renamed this one, or it is renamed here for its size. */
const isOver = (fd: number, path: string, length: number, maxBytes: number): boolean => {
  const [at, open] = [statSync(path, { throwIfNoEntry: false }), fstatSync(fd)]
  if (at === undefined || at.ino !== open.ino || at.dev !== open.dev) return true
  if (maxBytes === 0 || open.size === 0 || open.size + length <= maxBytes) return false
  renameSync(path, previousOf(path))
  return true
}

/**
 * Where a file that has reached the limit is moved to.
 *
 * @category utilities
 */
export const previousOf = (path: string): string => `${path}.1`

/** The open file. It is reopened after it was renamed or removed. */
interface Opened {
  fd: number
}

/** Writes a whole line, or returns the reason for the failure. */
const append = (opened: Opened, path: string, line: string, maxBytes: number): string | undefined => {
  try {
    let rest = Buffer.from(line)
    if (isOver(opened.fd, path, rest.length, maxBytes)) {
      const next = openNow(path)
      closeSync(opened.fd)
      opened.fd = next
    }
    while (rest.length > 0) rest = rest.subarray(writeSync(opened.fd, rest))
    return undefined
  } catch (error) {
    return OsError.describe(error)
  }
}

const make = (path: string, maxBytes: number) =>
  Effect.gen(function* () {
    const opened = yield* Effect.acquireRelease(
      Effect.map(open(path), (fd): Opened => ({ fd })),
      ({ fd }) => Effect.sync(() => closeSync(fd))
    )
    const clock = yield* Effect.clock
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    let failing = false
    // The last line was cut short: the next one must not be joined to it.
    let torn = false
    return {
      write: ({ sessionId, subject, peer }, { event, ...what }) => {
        const time = new Date(clock.unsafeCurrentTimeMillis()).toISOString()
        const line = PlainText.escaped(JSON.stringify({ time, event, sessionId, subject, peer, ...what }, clipped))
        const reason = append(opened, path, `${torn ? "\n" : ""}${line}\n`, maxBytes)
        torn = reason !== undefined
        // Logged once, not at every attempt.
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
 * An audit log in this file, which must be a regular one. Its mode becomes 0600. `maxBytes` limits its size; 0: no limit.
 *
 * @category layers
 */
export const layer = (
  path: string,
  { maxBytes = defaultMaxBytes }: { readonly maxBytes?: number | undefined } = {}
): Layer.Layer<never, AuditFileError> => Layer.scoped(AuditLog, make(path, maxBytes))
