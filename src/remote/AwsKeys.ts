/**
 * The keys that requests to AWS are signed with: from the environment, or from the files that its tools share.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import * as Either from "effect/Either"
import { isLoopback } from "../internal/Loopback.js"
import * as OsError from "../protocol/OsError.js"
import { RemoteAuthError } from "./RemoteAuth.js"

/**
 * Where the keys are, and what signatures are for.
 */
export interface Options {
  /** The profile of the shared files. Without it `AWS_PROFILE`, or else `default`. */
  readonly profile: string | undefined
  /** Without it `AWS_REGION`, `AWS_DEFAULT_REGION`, or that of the profile. */
  readonly region: string | undefined
  readonly service: string
  /** The environment, of which the variables that begin with `AWS_` are read. */
  readonly variables: NodeJS.ProcessEnv
  /** Whether requests may go to other machines over plain http. */
  readonly insecure: boolean
}

/** Keys as the library takes them. */
interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

type Checked<A> = Either.Either<A, RemoteAuthError>

const fail = (message: string) => Either.left(new RemoteAuthError({ message }))

/** The keys of one section of a shared file; none if there is no such file. */
const readSection = (path: string, section: string): Checked<ReadonlyMap<string, string>> => {
  let text: string
  try {
    text = readFileSync(path, "utf8")
  } catch (error) {
    return OsError.codeOf(error) === "ENOENT"
      ? Either.right(new Map())
      : fail(`cannot read the AWS credentials ${path}: ${OsError.describe(error)}`)
  }
  const found = new Map<string, string>()
  let current = ""
  for (const line of text.split("\n")) {
    const [, name] = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line) ?? []
    const [, key, value] = /^([A-Za-z_]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
    if (name !== undefined) current = name
    else if (current === section && key !== undefined && value !== undefined) found.set(key, value)
  }
  return Either.right(found)
}

/** The files that may hold keys: of credentials, and of the configuration. */
export const filesOf = ({ variables }: Pick<Options, "variables">): readonly [credentials: string, config: string] => {
  const folder = join(variables["HOME"] ?? homedir(), ".aws")
  return [
    variables["AWS_SHARED_CREDENTIALS_FILE"] || join(folder, "credentials"),
    variables["AWS_CONFIG_FILE"] || join(folder, "config")
  ]
}

/** The keys and the region. The files are read each time, so that keys can be renewed. */
export const resolve = (options: Options): Checked<{ readonly credentials: Credentials; readonly region: string }> =>
  Either.gen(function* () {
    const { variables, profile } = options
    const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = variables
    const section = profile ?? (variables["AWS_PROFILE"] || "default")
    const [file, configFile] = filesOf(options)
    const shared = yield* readSection(file, section)
    const config = yield* readSection(configFile, section === "default" ? section : `profile ${section}`)
    const of = (key: string) => shared.get(key) ?? config.get(key)
    const region =
      options.region ?? (variables["AWS_REGION"] || variables["AWS_DEFAULT_REGION"] || of("region") || undefined)
    if (region === undefined) return yield* fail("AWS requests need a region: give --aws-region, or set AWS_REGION")
    // A profile that is asked for wins over the variables.
    const [accessKeyId, secretAccessKey, sessionToken] =
      profile === undefined && id && secret
        ? [id, secret, token]
        : [of("aws_access_key_id"), of("aws_secret_access_key"), of("aws_session_token")]
    if (!accessKeyId || !secretAccessKey) {
      return yield* fail(
        `there are no AWS keys in the environment, nor in the profile ${section} of ${file}; ` +
          "`aws configure export-credentials --format env` prints those of other sources"
      )
    }
    return { credentials: { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }, region }
  })

/** Whether there are keys that may be used for this URL. */
export const check = (options: Options, url: URL): Either.Either<void, RemoteAuthError> =>
  url.protocol === "http:" && !isLoopback(url.hostname) && !options.insecure
    ? fail("refusing to send signed requests over plain http; use https, or pass --insecure")
    : Either.map(resolve(options), () => undefined)
