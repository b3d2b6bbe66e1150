/**
 * Explains why a command could not be started, like a shell: status 127 for a program that was not found, 126 for one
 * that cannot be executed.
 *
 * A server reports the same error for the program and for the working directory. To tell them apart, this module
 * examines both; if it cannot, the server's error stands.
 *
 * @since 0.1.0
 */
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import type { ServerError } from "../client/ClientError.js"
import type { Files } from "../client/Files.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed, Exited } from "./CommandExit.js"
import * as Terminal from "./Terminal.js"

/** The failed start, and access to the server's files. */
export interface Attempt {
  readonly program: string
  /** The working directory, as a `file:` URI. */
  readonly cwd: string
  /** The working directory as a path, for messages. */
  readonly displayCwd: string
  readonly getMetadata: Files["getMetadata"]
}

const notFound = 127
const notExecutable = 126

/** The deadline for examining one file, in milliseconds. */
const lookMs = 2000

/** Errors that concern a file. Others, such as ENOMEM or EMFILE, concern the machine. */
const ofFiles: ReadonlySet<string> = new Set([
  "E2BIG",
  "EACCES",
  "EISDIR",
  "ELOOP",
  "ENAMETOOLONG",
  "ENOENT",
  "ENOEXEC",
  "ENOTDIR",
  "EPERM",
  "ETXTBSY"
])

/** A name that no file has. The error for it shows whether a directory can be entered: ENOENT or EACCES. */
const missingName = ".exec-server-is-not-here"

/** The code of a system error in a message: `(os error 2)`, or the texts of the original for terminals. */
const codeIn = (reason: string): string | undefined => {
  const [, number] = /\(os error (\d+)\)/.exec(reason) ?? []
  if (number !== undefined) return OsError.codeName(Number(number))
  if (/No viable candidates found in PATH/.test(reason)) return "ENOENT"
  if (/because it is not executable/.test(reason)) return "EACCES"
  return /\((E[A-Z0-9]+): /.exec(reason)?.[1]
}

/** The text of a code, without its number. */
const wordsOf = (code: string): string => OsError.text(code).replace(/ \(os error \d+\)$/, "")

/** A path as a URI; a relative one is resolved against `cwd`. */
const uriOf = (path: string, cwd: string): string =>
  path.startsWith("/")
    ? pathToFileURL(path).href
    : new URL(pathToFileURL(`/${path}`).pathname.slice(1), `${cwd.replace(/\/$/, "")}/`).href

/** Examines a path: an error code if it is missing or inaccessible; undefined if the server does not say. */
const look = ({ getMetadata }: Attempt, uri: string) =>
  getMetadata(uri).pipe(
    Effect.map(({ isDirectory }) => ({ isDirectory, code: undefined })),
    Effect.catchTag("ServerError", ({ reason }) => {
      const code = codeIn(reason)
      return Effect.succeed(code === undefined ? undefined : { isDirectory: false, code })
    }),
    Effect.catchAll(() => Effect.succeed(undefined)),
    Effect.timeoutTo({ duration: lookMs, onSuccess: (found) => found, onTimeout: () => undefined })
  )

/** The error of the working directory; undefined if it is usable, `unknown` if the server does not say. */
const faultOfCwd = (attempt: Attempt, code: string) =>
  Effect.gen(function* () {
    const { cwd } = attempt
    const found = yield* look(attempt, cwd)
    if (found === undefined) return "unknown"
    if (found.code !== undefined) return found.code
    if (!found.isDirectory) return "ENOTDIR"
    if (code !== "EACCES") return undefined
    const inside = yield* look(attempt, uriOf(missingName, cwd))
    return inside === undefined ? "unknown" : inside.code === "EACCES" ? "EACCES" : undefined
  })

/** Fails with a shell's message and status, or with `failure` if it concerns neither program nor working directory. */
export const explain = (
  failure: ServerError,
  attempt: Attempt
): Effect.Effect<never, ServerError | CommandFailed | Exited> =>
  Effect.gen(function* () {
    const { program, cwd, displayCwd } = attempt
    const code = codeIn(failure.reason)
    if (code === undefined || !ofFiles.has(code)) return yield* failure
    const fault = yield* faultOfCwd(attempt, code)
    if (fault === "unknown") return yield* failure
    if (fault !== undefined) {
      return yield* new CommandFailed({
        message: `cannot use ${displayCwd} as the working directory: ${OsError.text(fault)}`
      })
    }
    const end = (why: string, status: number) =>
      Effect.zipRight(Terminal.say(`${program}: ${why}`), new Exited({ code: status }))
    if (code !== "ENOENT") return yield* end(wordsOf(code), notExecutable)
    if (!program.includes("/")) return yield* end("command not found", notFound)
    // ENOENT for an existing file: its interpreter is missing.
    const found = yield* look(attempt, uriOf(program, cwd))
    return yield* found === undefined || found.code !== undefined
      ? end(wordsOf(code), notFound)
      : end(`bad interpreter: ${wordsOf(code)}`, notExecutable)
  })
