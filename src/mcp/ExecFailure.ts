/**
 * Why a call could not be carried out.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { ClientError } from "../client/ClientError.js"

/**
 * A call could not be carried out; the message says why, with which value, and what to do.
 *
 * @category errors
 */
export class ExecFailure extends Data.TaggedError("ExecFailure")<{ readonly message: string }> {}

/**
 * The reason of a failure, without the words around that of a server.
 *
 * @category utilities
 */
export const reasonOf = (error: ClientError): string => (error._tag === "ServerError" ? error.reason : error.message)
