/**
 * The bearer token with which a client authenticates to a server.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Data from "effect/Data"
import * as Either from "effect/Either"

/**
 * The token is missing or malformed; the message does not contain it.
 *
 * @category errors
 */
export class TokenError extends Data.TaggedError("TokenError")<{
  readonly message: string
  /** Whether it comes from a file; otherwise from the variable. */
  readonly inFile: boolean
}> {}

/**
 * The variable with the token, used if no file is given.
 *
 * @category constants
 */
export const variableName = "EXEC_SERVER_TOKEN"

const check = (token: string, source: string, inFile: boolean): Either.Either<string, TokenError> =>
  /^[\x21-\x7e]+$/.test(token)
    ? Either.right(token)
    : Either.left(
        new TokenError({
          message: `the token in ${source} is empty, or not one line of printable ASCII without spaces`,
          inFile
        })
      )

/**
 * Reads the token from a file, or else from `EXEC_SERVER_TOKEN`; undefined if neither is given.
 *
 * @category constructors
 */
export const load = ({
  tokenFile,
  variables
}: {
  readonly tokenFile: string | undefined
  readonly variables: NodeJS.ProcessEnv
}): Either.Either<string | undefined, TokenError> => {
  if (tokenFile === undefined) {
    const token = variables[variableName]?.trim()
    return token ? check(token, variableName, false) : Either.right(undefined)
  }
  return Either.flatMap(
    Either.try({
      try: () => readFileSync(tokenFile, "utf8").trim(),
      catch: (error) => {
        const reason = error instanceof Error ? error.message : String(error)
        return new TokenError({ message: `cannot read the token file ${tokenFile}: ${reason}`, inFile: true })
      }
    }),
    (token) => check(token, tokenFile, true)
  )
}
