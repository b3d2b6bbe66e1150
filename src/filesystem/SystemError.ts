/**
 * Errors of system calls on files, and the failures that clients get for them.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
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
export const ofCode = (code: string): SystemError => new SystemError({ code, message: OsError.text(code) })

/** Runs a system call. */
export const attempt = <A>(call: () => Promise<A>): Effect.Effect<A, SystemError> =>
  Effect.tryPromise({
    try: call,
    catch: (error) => new SystemError({ code: OsError.codeOf(error) ?? "", message: OsError.describe(error) })
  })

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
