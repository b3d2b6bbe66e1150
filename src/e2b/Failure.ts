/**
 * Why a request is refused, in the codes of the Connect protocol, and their HTTP statuses.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { ClientError, WriteRefused } from "../client/ClientError.js"

/** The codes, and the status of an answer that is no stream. */
const statuses = {
  invalid_argument: 400,
  deadline_exceeded: 504,
  not_found: 404,
  already_exists: 409,
  permission_denied: 403,
  resource_exhausted: 429,
  failed_precondition: 400,
  unimplemented: 501,
  internal: 500,
  unavailable: 503,
  data_loss: 500,
  unauthenticated: 401
} as const

/** A code of the Connect protocol. */
export type Code = keyof typeof statuses

/** A request could not be carried out; the message is for the client. */
export class Failure extends Data.TaggedError("E2bFailure")<{ readonly code: Code; readonly message: string }> {
  /** The HTTP status, outside of streams. */
  get status(): number {
    return statuses[this.code]
  }

  /** The JSON of the error in the Connect protocol. */
  get body(): { readonly code: Code; readonly message: string } {
    return { code: this.code, message: this.message }
  }
}

/** Makes a failure. */
export const fail = (code: Code, message: string): Failure => new Failure({ code, message })

/** What errors of an operating system say, in the words of servers and of programs in the C locale. */
const meanings: ReadonlyArray<readonly [RegExp, Code]> = [
  [/no such file or directory|not found/i, "not_found"],
  [/permission denied|operation not permitted|read-only file system/i, "permission_denied"],
  [/file exists/i, "already_exists"],
  [/no space left|disk quota exceeded/i, "resource_exhausted"],
  [
    /not a directory|is a directory|not a file|file name too long|too many levels|nul byte|argument list too long/i,
    "invalid_argument"
  ]
]

/** The code for the reason of an error. */
export const codeOf = (reason: string): Code => meanings.find(([pattern]) => pattern.test(reason))?.[1] ?? "internal"

/** The failure for an error of the environment; `what` says what was done, with the path or the command. */
export const ofClient = (what: string, error: ClientError | WriteRefused): Failure => {
  switch (error._tag) {
    case "ServerError":
      return fail(codeOf(error.reason), `${what}: ${error.reason}`)
    case "InvalidRequest":
      return fail("invalid_argument", `${what}: ${error.message}`)
    case "TooManyRequests":
      return fail("resource_exhausted", `${what}: ${error.message}`)
    case "Unsupported":
      return fail("unimplemented", `${what}: ${error.message}`)
    case "WriteRefused":
      return fail("failed_precondition", `${what}: ${error.message}`)
    default:
      return fail("unavailable", `${what}: ${error.message}`)
  }
}
