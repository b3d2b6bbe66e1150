/**
 * What the error of a system call is about. Our servers say it; those of codex send only the system's text, so that the
 * parameters of the request have to say it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Exit from "effect/Exit"
import * as SystemText from "../protocol/SystemText.js"
import type { Prepared } from "./Api.js"
import { type ClientError, ServerError } from "./ClientError.js"

type Members = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Members => typeof value === "object" && value !== null

/** A path among decoded parameters, as text. */
const pathIn = (value: unknown): string | undefined => {
  if (!isObject(value)) return undefined
  if (value["bytes"] instanceof Buffer) return value["bytes"].toString()
  return typeof value["path"] === "string" ? value["path"] : undefined
}

/** The path of a request on files, both paths of a copy, the program and the directory of a start. */
const subjectOf = ({ method, params }: Prepared): string | undefined => {
  if (!isObject(params)) return undefined
  switch (method) {
    case "process/start": {
      const { argv } = params
      const program: unknown = Array.isArray(argv) ? argv[0] : undefined
      return `${String(program)} in ${pathIn(params["cwd"])}`
    }
    case "fs/copy":
      return `${pathIn(params["sourcePath"])} to ${pathIn(params["destinationPath"])}`
    default:
      return pathIn(params["path"])
  }
}

/** The answer of a server to a request. The error of a system call has its text as the reason, and what it is about. */
export const named = (prepared: Prepared, answer: Exit.Exit<unknown, ClientError>): Exit.Exit<unknown, ClientError> =>
  Exit.mapError(answer, (error) => {
    const found = error._tag === "ServerError" ? SystemText.parse(error.reason) : undefined
    if (error._tag !== "ServerError" || found === undefined) return error
    const about = found.subject ?? subjectOf(prepared)
    return about === undefined ? error : new ServerError({ code: error.code, reason: found.text, about })
  })
