/**
 * The machine as clients of E2B see it: its home directory and its one user.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HeadTail from "../client/HeadTail.js"
import type { Environment } from "../environment/Environment.js"
import * as PathUri from "../protocol/PathUri.js"
import { type Failure, fail } from "./Failure.js"

/** E2B's name for the user that everything runs as. */
const defaultUser = "user"

/** Variables that no command must see (patterns). */
const secrets = ["EXEC_SERVER_*TOKEN", "EXEC_SERVER_*SECRET", "CODEX_API_KEY"]

/** Commands get the variables of the server of the environment. */
export const inheritAll = {
  inherit: "all",
  ignoreDefaultExcludes: true,
  exclude: secrets,
  set: {},
  includeOnly: []
} as const

/** The longest name that is repeated in a message. */
const maxShown = 100

/** What requests need to know of the machine. */
export interface Place {
  readonly home: string
  /** The name of the user that the environment runs as. */
  readonly user: string
}

/** How long the name of the user may take to be known, in milliseconds. */
const userMs = 5000

const homeOf = ({ info }: Environment): string =>
  Either.match(PathUri.parse(info.userHomeDir ?? info.cwd ?? "/"), { onLeft: () => "/", onRight: ({ path }) => path })

/** Asks an environment. */
export const of = (environment: Environment): Effect.Effect<Place> => {
  const home = homeOf(environment)
  const options = { argv: ["id", "-un"], cwd: pathToFileURL(home).href, envPolicy: inheritAll }
  return environment.processes.start(options).pipe(
    Effect.flatMap((process) => process.communicate({ maxBytes: 256 })),
    Effect.timeout(userMs),
    Effect.map(({ stdout }) => HeadTail.bytesOf(stdout).toString().trim()),
    // Systems without the program, and users without a name.
    Effect.orElseSucceed(() => ""),
    Effect.map((user) => ({ home, user: user === "" ? defaultUser : user }))
  )
}

/** Checks the user that a request names. Everything runs as one user, which `user` is another name for. */
export const checkUser = ({ user }: Place, given: string | undefined): Either.Either<void, Failure> =>
  given === undefined || given === "" || given === defaultUser || given === user
    ? Either.void
    : Either.left(
        fail(
          "unauthenticated",
          `invalid username: '${given.slice(0, maxShown)}'; everything here runs as '${user}', which '${defaultUser}' means too`
        )
      )

/** The user in a header of basic authentication. */
export const userIn = (authorization: string | undefined): string | undefined => {
  const [, encoded] = /^basic +(\S+)$/i.exec(authorization ?? "") ?? []
  return encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString().split(":", 1)[0]
}

/** An absolute path: relative ones, and `~`, begin at the home directory. */
export const resolve = ({ home }: Place, path: string): Either.Either<string, Failure> => {
  if (path.includes("\0")) return Either.left(fail("invalid_argument", "a path contains a null byte"))
  if (/^~[^/]/.test(path)) {
    return Either.left(fail("invalid_argument", `${path.slice(0, maxShown)}: only one's own home directory has a ~`))
  }
  return Either.right(posix.resolve(home, path.replace(/^~\/*/, "")))
}
