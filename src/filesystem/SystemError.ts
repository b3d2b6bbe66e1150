/**
 * Failures of system calls on files: as the operating system names them, and as a client is told of them.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { FileFailed, FileNotFound, FileRefused } from "../protocol/Failure.js"
import * as OsError from "../protocol/OsError.js"

/** A system call failed, with a code such as `ENOENT`. */
export class SystemError extends Data.TaggedError("SystemError")<{
  readonly code: string
  readonly message: string
}> {}

/** What a client is told. */
export type FileError = FileNotFound | FileRefused | FileFailed

/** The failure of a code, as if a system call had met it. */
export const ofCode = (code: string): SystemError => new SystemError({ code, message: OsError.text(code) })

/** Runs a system call. */
export const attempt = <A>(call: () => Promise<A>): Effect.Effect<A, SystemError> =>
  Effect.tryPromise({
    try: call,
    catch: (error) => new SystemError({ code: OsError.codeOf(error) ?? "", message: OsError.describe(error) })
  })

/** Runs a system call, and says nothing of the one failure that does not matter. */
export const attemptUnless = (code: string, call: () => Promise<unknown>): Effect.Effect<void, SystemError> =>
  Effect.catchAll(Effect.asVoid(attempt(call)), (error) => (error.code === code ? Effect.void : error))

/** The failure a client is told of. */
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

/** The same for a whole operation. */
export const told = <A, R>(effect: Effect.Effect<A, SystemError | FileError, R>): Effect.Effect<A, FileError, R> =>
  Effect.mapError(effect, (error) => (error._tag === "SystemError" ? toFileError(error) : error))

/** Closes what was open. What a file system has to say by then is of no use to anybody. */
export const close = (open: { readonly close: () => Promise<void> }): Effect.Effect<void> =>
  Effect.ignore(attempt(() => open.close()))
