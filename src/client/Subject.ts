/**
 * What a request is about. The errors of servers do not say it: their texts are those of the operating system.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Exit from "effect/Exit"
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

/** The texts of the operating system's errors. */
const osError = /\(os error \d+\)$/

/** The answer of a server to a request. The error of a system call gets the path that it is about. */
export const named = (prepared: Prepared, answer: Exit.Exit<unknown, ClientError>): Exit.Exit<unknown, ClientError> =>
  Exit.mapError(answer, (error) => {
    if (error._tag !== "ServerError" || !osError.test(error.reason)) return error
    const about = subjectOf(prepared)
    return about === undefined ? error : new ServerError({ code: error.code, reason: error.reason, about })
  })
