/**
 * `environments.toml`: the configured environments and the default one. Format and error texts are the original's.
 *
 * @since 0.1.0
 */
import { existsSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { isAbsolute, join } from "node:path"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import * as TOML from "smol-toml"
import * as OsError from "../protocol/OsError.js"
import { redactUrl } from "../protocol/Redact.js"

/**
 * A configuration is invalid or cannot be read; the message says why.
 *
 * @category errors
 */
export class EnvironmentConfigError extends Data.TaggedError("EnvironmentConfigError")<{
  readonly detail: string
  /** The file could not be read. */
  readonly unreadable?: true
}> {
  override get message() {
    return `exec-server protocol error: ${this.detail}`
  }
}

/**
 * How to connect to an environment: at a URL, or by starting a program that serves on its stdin and stdout.
 *
 * @category models
 */
export type Target = Data.TaggedEnum<{
  Url: {
    readonly url: string
    readonly connectTimeoutMs: number | undefined
    /** The path of a file with the bearer token. */
    readonly tokenFile: string | undefined
    /** Whether to send it to another machine over plain `ws://`. */
    readonly insecure: boolean
  }
  Program: {
    readonly command: string
    readonly args: ReadonlyArray<string>
    readonly env: Readonly<Record<string, string>>
    readonly cwd: string | undefined
  }
}>
/** The constructors of `Target`. */
export const Target = Data.taggedEnum<Target>()

/**
 * What an environment may be used for.
 *
 * @category models
 */
export interface Enabled {
  /** Whether it may run processes. */
  readonly execEnabled: boolean
  /** Whether its files may be read and written. */
  readonly filesystemEnabled: boolean
}

/**
 * Everything is enabled: the default.
 *
 * @category constants
 */
export const allEnabled: Enabled = { execEnabled: true, filesystemEnabled: true }

/**
 * Nothing is enabled: no environment is selected.
 *
 * @category constants
 */
export const noneEnabled: Enabled = { execEnabled: false, filesystemEnabled: false }

/**
 * A configured environment.
 *
 * @category models
 */
export interface Entry extends Partial<Enabled> {
  readonly id: string
  readonly target: Target
  readonly initializeTimeoutMs: number | undefined
}

/**
 * A parsed configuration.
 *
 * @category models
 */
export interface EnvironmentConfig {
  /** In the order of the file. */
  readonly entries: ReadonlyArray<Entry>
  /** Whether this machine is also an environment, with the id `local`. */
  readonly includeLocal: boolean
  /** The id of the default environment; undefined if there is none. */
  readonly defaultId: string | undefined
  /** Which environments new work starts with: all, the default one first, or only the default one. */
  readonly initial: "all" | "default"
}

/**
 * The id of this machine.
 *
 * @category constants
 */
export const localId = "local"

/**
 * The id of the environment at the URL of a flag or variable.
 *
 * @category constants
 */
export const remoteId = "remote"

const maxIdLength = 64

const fail = (detail: string) => Either.left(new EnvironmentConfigError({ detail }))

type Checked<A> = Either.Either<A, EnvironmentConfigError>

const ok: Checked<void> = Either.void

/** The type of a key's value; `words` is its name in error messages. */
interface Kind {
  readonly is: (value: unknown) => boolean
  readonly words: string
}

const text: Kind = { is: (value) => typeof value === "string", words: "a string" }
const seconds: Kind = {
  is: (value) =>
    (typeof value === "number" && value > 0 && value <= 86400) || (typeof value === "bigint" && value > 0n),
  words: "a number of seconds above 0, at most 86400"
}

const boolean: Kind = { is: (value) => typeof value === "boolean", words: "a boolean" }

const topKeys: Readonly<Record<string, Kind>> = {
  default: text,
  include_local: boolean,
  environments: { is: (value) => Array.isArray(value) && value.every(isRecord), words: "an array of tables" }
}

const entryKeys: Readonly<Record<string, Kind>> = {
  id: text,
  url: text,
  program: text,
  args: {
    is: (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
    words: "an array of strings"
  },
  env: {
    is: (value) => isRecord(value) && Object.values(value).every((item) => typeof item === "string"),
    words: "a table of strings"
  },
  cwd: text,
  token_file: text,
  insecure: boolean,
  connect_timeout_sec: seconds,
  initialize_timeout_sec: seconds,
  exec_enabled: boolean,
  filesystem_enabled: boolean
}

/** An entry whose keys have been checked. */
interface RawEntry {
  readonly id?: string
  readonly url?: string
  readonly program?: string
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly token_file?: string
  readonly insecure?: boolean
  readonly connect_timeout_sec?: number
  readonly initialize_timeout_sec?: number
  readonly exec_enabled?: boolean
  readonly filesystem_enabled?: boolean
}

interface RawConfig {
  readonly default?: string
  readonly include_local?: boolean
  readonly environments?: ReadonlyArray<object>
}

/** The first error in a table: an unknown key, or a value of the wrong type. */
const faultIn = (table: object, kinds: Readonly<Record<string, Kind>>): string | undefined => {
  for (const [key, value] of Object.entries(table)) {
    const kind = Object.hasOwn(kinds, key) ? kinds[key] : undefined
    if (kind === undefined) {
      const expected = Object.keys(kinds).map((known) => `\`${known}\``)
      return `unknown field \`${key}\`, expected one of ${expected.join(", ")}`
    }
    if (!kind.is(value)) return `\`${key}\` must be ${kind.words}`
  }
  return undefined
}

/**
 * Checks the id of a configured environment; `local` and `none` are reserved.
 *
 * @category utilities
 */
export const checkId = (id: string): Checked<void> => {
  if (id.trim() === "") return fail("environment id cannot be empty")
  if (id.trim() !== id) return fail(`environment id \`${id}\` must not contain surrounding whitespace`)
  if (id.toLowerCase() === localId || id.toLowerCase() === "none") return fail(`environment id \`${id}\` is reserved`)
  if (id.length > maxIdLength) return fail(`environment id \`${id}\` cannot be longer than ${maxIdLength} characters`)
  return /^[A-Za-z0-9_-]+$/.test(id)
    ? ok
    : fail(`environment id \`${id}\` must contain only ASCII letters, numbers, '-' or '_'`)
}

/**
 * Trims and checks a URL: `ws://`, `wss://` or, beyond the original, `unix://`, `noise://`, `noises://`, `relay://` or
 * `relays://`.
 *
 * @category constructors
 */
export const parseUrl = (given: string): Checked<string> => {
  const url = given.trim()
  if (url === "") return fail("environment url cannot be empty")
  const shown = redactUrl(url)
  if (!/^(wss?|noises?|relays?|unix):\/\//.test(url)) {
    return fail(
      `environment url \`${shown}\` must use ws:// or wss://, or unix:///, noise://, noises://, relay:// or relays://`
    )
  }
  if (!URL.canParse(url)) return fail(`environment url \`${shown}\` is invalid: it is not a URL`)
  const { protocol, host, pathname } = new URL(url)
  const needed = protocol === "unix:" ? pathname : host
  return needed === "" ? fail(`environment url \`${shown}\` is invalid: empty host`) : Either.right(url)
}

const milliseconds = (sec: number | undefined) => (sec === undefined ? undefined : Math.ceil(Number(sec) * 1000))

const parseTarget = (id: string, raw: RawEntry, folder: string | undefined): Checked<Target> => {
  const {
    program,
    url,
    args,
    env,
    cwd,
    token_file: tokenFile,
    insecure = false,
    connect_timeout_sec: connectTimeout
  } = raw
  if ((url === undefined) === (program === undefined)) {
    return fail(`environment \`${id}\` must set exactly one of url or program`)
  }
  const resolved = (path: string) => (folder === undefined || isAbsolute(path) ? path : join(folder, path))
  if (url !== undefined) {
    if (args !== undefined || env !== undefined || cwd !== undefined) {
      return fail(`environment \`${id}\` args, env, and cwd require program`)
    }
    return Either.map(parseUrl(url), (url) =>
      Target.Url({
        url,
        connectTimeoutMs: milliseconds(connectTimeout),
        tokenFile: tokenFile === undefined ? undefined : resolved(tokenFile),
        insecure
      })
    )
  }
  if (connectTimeout !== undefined) return fail(`environment \`${id}\` connect_timeout_sec requires url`)
  if (tokenFile !== undefined) return fail(`environment \`${id}\` token_file requires url`)
  if (insecure) return fail(`environment \`${id}\` insecure requires url`)
  const command = program?.trim() ?? ""
  if (command === "") return fail(`environment \`${id}\` program cannot be empty`)
  if (cwd !== undefined && !isAbsolute(resolved(cwd))) return fail(`environment \`${id}\` cwd must be absolute`)
  const target = { command, args: args ?? [], env: env ?? {}, cwd: cwd === undefined ? undefined : resolved(cwd) }
  return Either.right(Target.Program(target))
}

const parseDefault = (
  given: string | undefined,
  includeLocal: boolean,
  entries: ReadonlyArray<Entry>
): Checked<string | undefined> => {
  if (given === undefined) return Either.right(includeLocal ? localId : undefined)
  const id = given.trim()
  if (id === "") return fail("default environment id cannot be empty")
  if (id.toLowerCase() === "none") return Either.right(undefined)
  const isConfigured = (includeLocal && id === localId) || entries.some((entry) => entry.id === id)
  return isConfigured ? Either.right(id) : fail(`default environment \`${id}\` is not configured`)
}

const parseEntries = (raws: ReadonlyArray<RawEntry>, folder: string | undefined): Checked<ReadonlyArray<Entry>> =>
  Either.gen(function* () {
    const entries: Array<Entry> = []
    for (const raw of raws) {
      const id = raw.id ?? ""
      yield* checkId(id)
      if (entries.some((entry) => entry.id === id)) yield* fail(`environment id \`${id}\` is duplicated`)
      const target = yield* parseTarget(id, raw, folder)
      const { exec_enabled: execEnabled = true, filesystem_enabled: filesystemEnabled = true } = raw
      const initializeTimeoutMs = milliseconds(raw.initialize_timeout_sec)
      entries.push({ id, target, initializeTimeoutMs, execEnabled, filesystemEnabled })
    }
    return entries
  })

/** Parses a document and checks its keys; Left is the first error. */
const parseDocument = (content: string): Either.Either<RawConfig, string> =>
  Either.flatMap(
    Either.try({
      try: () => TOML.parse(content),
      catch: (error) => (error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : String(error))
    }),
    (document) => {
      const fault = faultIn(document, topKeys)
      if (fault !== undefined) return Either.left(fault)
      // The cast is safe: the keys are checked.
      const config = document as RawConfig
      for (const entry of config.environments ?? []) {
        const fault = Object.hasOwn(entry, "id") ? faultIn(entry, entryKeys) : "missing field `id`"
        if (fault !== undefined) return Either.left(fault)
      }
      return Either.right(config)
    }
  )

/**
 * Parses a configuration. Error messages name `source`. Relative paths are resolved against `folder`; without it, a
 * relative `cwd` is refused.
 *
 * @category constructors
 */
export const parse = (
  content: string,
  source: string,
  folder: string | undefined
): Either.Either<EnvironmentConfig, EnvironmentConfigError> =>
  Either.gen(function* () {
    const raw = yield* Either.mapLeft(
      parseDocument(content),
      (why) => new EnvironmentConfigError({ detail: `failed to parse environment config \`${source}\`: ${why}` })
    )
    const { default: given, include_local: includeLocal = true, environments = [] } = raw
    const entries = yield* parseEntries(environments, folder)
    const defaultId = yield* parseDefault(given, includeLocal, entries)
    return { entries, includeLocal, defaultId, initial: "all" } as const
  })

/**
 * Reads a configuration file; relative paths are resolved against its directory.
 *
 * @category constructors
 */
export const load = (path: string): Either.Either<EnvironmentConfig, EnvironmentConfigError> =>
  Either.flatMap(
    Either.try({
      try: () => readFileSync(path, "utf8"),
      catch: (error) =>
        new EnvironmentConfigError({
          detail: `failed to read environment config \`${path}\`: ${OsError.describe(error)}`,
          unreadable: true
        })
    }),
    (content) => parse(content, path, join(path, ".."))
  )

/**
 * The configuration for a URL: only this machine if it is empty, no environment if it is `none` (in any case), else
 * only an environment `remote` at the URL.
 *
 * @category constructors
 */
export const fromUrl = (given: string | undefined): Either.Either<EnvironmentConfig, EnvironmentConfigError> => {
  const url = given?.trim() ?? ""
  const initial = "default"
  if (url === "") return Either.right({ entries: [], includeLocal: true, defaultId: localId, initial })
  if (url.toLowerCase() === "none") {
    return Either.right({ entries: [], includeLocal: false, defaultId: undefined, initial })
  }
  return Either.map(parseUrl(url), (url) => ({
    entries: [
      {
        id: remoteId,
        target: Target.Url({ url, connectTimeoutMs: undefined, tokenFile: undefined, insecure: false }),
        initializeTimeoutMs: undefined
      }
    ],
    includeLocal: false,
    defaultId: remoteId,
    initial
  }))
}

/**
 * The configuration of a program: `environments.toml` in `CODEX_HOME` (default `~/.codex`) if it exists, else the URL
 * in `EXEC_SERVER_URL` or `CODEX_EXEC_SERVER_URL`.
 *
 * @category constructors
 */
export const fromVariables = (
  variables: NodeJS.ProcessEnv
): Either.Either<EnvironmentConfig, EnvironmentConfigError> => {
  const file = join(variables["CODEX_HOME"] || join(homedir(), ".codex"), "environments.toml")
  return existsSync(file) ? load(file) : fromUrl(variables["EXEC_SERVER_URL"] ?? variables["CODEX_EXEC_SERVER_URL"])
}
