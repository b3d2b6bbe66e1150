/**
 * Why a command could not be started, told as shells tell it: status 127 for a program that is not found, 126 for one
 * that cannot be executed.
 *
 * A server gives the same error for the program and for the directory to run it in. Which of them it was is found out by
 * looking at both; where that cannot be done, the server's own answer stands.
 *
 * @since 0.1.0
 */
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import type { ServerError } from "../client/ClientError.js"
import type { Files } from "../client/Files.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed, Exited } from "./Outcome.js"
import * as Terminal from "./Terminal.js"

/** What was to be started, and how to look at files where that was. */
export interface Attempt {
  readonly program: string
  /** The directory to run it in, as a `file:` URI. */
  readonly cwd: string
  /** The directory in words. */
  readonly cwdShown: string
  readonly getMetadata: Files["getMetadata"]
}

const notFound = 127
const notExecutable = 126

/** How long each look at a file may take, in milliseconds. */
const lookMs = 2000

/** Errors that say something of a file; others, as of memory or of descriptors, say something of the machine. */
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

/** No file has this name: whether a directory can be entered shows in how it is said that it is not there. */
const nobody = ".exec-server-is-not-here"

/** The code in an error of the system: `(os error 2)`, or as the original's terminals have said it. */
const codeIn = (reason: string): string | undefined => {
  const [, number] = /\(os error (\d+)\)/.exec(reason) ?? []
  if (number !== undefined) return OsError.codeName(Number(number))
  if (/No viable candidates found in PATH/.test(reason)) return "ENOENT"
  if (/because it is not executable/.test(reason)) return "EACCES"
  return /\((E[A-Z0-9]+): /.exec(reason)?.[1]
}

/** The words for a code, without its number. */
const wordsOf = (code: string): string => OsError.text(code).replace(/ \(os error \d+\)$/, "")

/** A path as a URI; a relative one is below the directory. */
const uriOf = (path: string, cwd: string): string =>
  path.startsWith("/")
    ? pathToFileURL(path).href
    : new URL(pathToFileURL(`/${path}`).pathname.slice(1), `${cwd.replace(/\/$/, "")}/`).href

/** What is somewhere: a code if nothing is, or nothing that can be looked at; undefined if nobody says. */
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

/** Why nothing can be run in the directory; undefined if that is not the reason, `unknown` if nobody says. */
const faultOfCwd = (attempt: Attempt, code: string) =>
  Effect.gen(function* () {
    const { cwd } = attempt
    const found = yield* look(attempt, cwd)
    if (found === undefined) return "unknown"
    if (found.code !== undefined) return found.code
    if (!found.isDirectory) return "ENOTDIR"
    if (code !== "EACCES") return undefined
    const inside = yield* look(attempt, uriOf(nobody, cwd))
    return inside === undefined ? "unknown" : inside.code === "EACCES" ? "EACCES" : undefined
  })

/** Fails with what a shell would say, and its status; with the failure itself where it is about something else. */
export const explain = (
  failure: ServerError,
  attempt: Attempt
): Effect.Effect<never, ServerError | CommandFailed | Exited> =>
  Effect.gen(function* () {
    const { program, cwd, cwdShown } = attempt
    const code = codeIn(failure.reason)
    if (code === undefined || !ofFiles.has(code)) return yield* failure
    const fault = yield* faultOfCwd(attempt, code)
    if (fault === "unknown") return yield* failure
    if (fault !== undefined) {
      return yield* new CommandFailed({ message: `cannot run anything in ${cwdShown}: ${OsError.text(fault)}` })
    }
    const end = (why: string, status: number) =>
      Effect.zipRight(Terminal.say(`${program}: ${why}`), new Exited({ code: status }))
    if (code !== "ENOENT") return yield* end(wordsOf(code), notExecutable)
    if (!program.includes("/")) return yield* end("command not found", notFound)
    // What is there, and yet is said not to be, names an interpreter that is not.
    const found = yield* look(attempt, uriOf(program, cwd))
    return yield* found === undefined || found.code !== undefined
      ? end(wordsOf(code), notFound)
      : end(`bad interpreter: ${wordsOf(code)}`, notExecutable)
  })
