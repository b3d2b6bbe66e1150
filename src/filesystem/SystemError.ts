/**
 * Errors of system calls on files, and the failures that clients get for them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { FileFailed, FileNotFound, FileRefused } from "../protocol/Failure.js"
import * as OsError from "../protocol/OsError.js"

/** A system call failed with a code such as `ENOENT`. */
export class SystemError extends Data.TaggedError("SystemError")<{
  readonly code: string
  readonly message: string
}> {}

/** The file failures of the protocol. */
export type FileError = FileNotFound | FileRefused | FileFailed

/** Makes the error of a code, as if a system call had returned it. */
export const ofCode = (code: string, message: string = OsError.text(code)): SystemError =>
  new SystemError({ code, message })

/**
 * The time limit of each system call of an operation. A call that exceeds it fails, although a thread still waits for
 * it. All later calls of the operation fail at once.
 */
export interface Limit {
  /** In milliseconds. */
  readonly ms: number
  /** Called when a call exceeds the limit; returns the error message. */
  readonly onExceeded: () => string
  /** The error message, once a call has exceeded the limit. */
  exceeded: string | undefined
}

/** The limit of system calls; none by default. */
export class CallLimit extends Context.Reference<CallLimit>()("exec-server/CallLimit", {
  defaultValue: (): Limit | undefined => undefined
}) {}

/** Restarts the time limit. For calls that make several system calls: call it after each. */
export type Progress = () => void

/** Not by `Effect.timeout`: many calls are in uninterruptible regions. */
const limited = <A>(call: (progress: Progress) => Promise<A>, limit: Limit): Promise<A> =>
  new Promise((resolve, reject) => {
    const fail = (message: string) => reject(ofCode("ETIMEDOUT", message))
    if (limit.exceeded !== undefined) return fail(limit.exceeded)
    const timer = setTimeout(() => {
      limit.exceeded ??= limit.onExceeded()
      fail(limit.exceeded)
    }, limit.ms)
    call(() => timer.refresh())
      .then(resolve, reject)
      .finally(() => clearTimeout(timer))
  })

const noProgress: Progress = () => {}

const toSystemError = (error: unknown): SystemError =>
  error instanceof SystemError
    ? error
    : new SystemError({ code: OsError.codeOf(error) ?? "", message: OsError.describe(error) })

/** Runs a system call, within the `CallLimit` if there is one. */
export const attempt = <A>(call: (progress: Progress) => Promise<A>): Effect.Effect<A, SystemError> =>
  Effect.withFiberRuntime((fiber) => {
    const limit = Context.get(fiber.currentContext, CallLimit)
    return Effect.tryPromise({
      try: () => (limit === undefined ? call(noProgress) : limited(call, limit)),
      catch: toSystemError
    })
  })

/** None if the system call fails. A timeout still fails: the file may exist. */
export const optionOf = <A, R>(
  effect: Effect.Effect<A, SystemError, R>
): Effect.Effect<Option.Option<A>, SystemError, R> =>
  Effect.catchIf(
    Effect.asSome(effect),
    ({ code }) => code !== "ETIMEDOUT",
    () => Effect.succeedNone
  )

/** Runs a system call and ignores errors of one code. */
export const attemptUnless = (code: string, call: () => Promise<unknown>): Effect.Effect<void, SystemError> =>
  Effect.catchAll(Effect.asVoid(attempt(call)), (error) => (error.code === code ? Effect.void : error))

/** Maps a system error to the failure that a client gets. */
export const toFileError = ({ code, message }: SystemError): FileError => {
  switch (code) {
    case "ENOENT":
      return new FileNotFound({ message })
    case "EINVAL":
    case "EACCES":
    case "EPERM":
      return new FileRefused({ message })
    default:
      return new FileFailed({ message })
  }
}

/** Maps the system errors of an operation to the failures that a client gets. */
export const mapToFileError = <A, R>(
  effect: Effect.Effect<A, SystemError | FileError, R>
): Effect.Effect<A, FileError, R> =>
  Effect.mapError(effect, (error) => (error._tag === "SystemError" ? toFileError(error) : error))

/** Closes a file or directory. Errors are ignored: they cannot be handled any more. */
export const close = (open: { readonly close: () => Promise<void> }): Effect.Effect<void> =>
  Effect.ignore(attempt(() => open.close()))
