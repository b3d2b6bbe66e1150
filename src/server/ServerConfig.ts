/**
 * Every setting of the server: one table from which flags, environment variables and configuration keys derive.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Config from "effect/Config"
import * as EffectConfigError from "effect/ConfigError"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as TOML from "smol-toml"
import { defaults as http } from "../http/HttpLimits.js"
import { defaults as processes } from "../process/ProcessLimits.js"
import * as OsError from "../protocol/OsError.js"
import { defaults as sessions } from "../session/SessionLimits.js"
import { defaults as transports } from "../transport/TransportLimits.js"

/**
 * A setting makes no sense; the message says which one, where it came from, and what it may be.
 *
 * @category errors
 */
export class ConfigError extends Data.TaggedError("ConfigError")<{ readonly message: string }> {}

/**
 * The configuration file cannot be read; the message says which one, and why.
 *
 * @category errors
 */
export class ConfigUnreadable extends Data.TaggedError("ConfigUnreadable")<{ readonly message: string }> {}

/**
 * Words for how much is logged, from everything to nothing.
 *
 * @category utilities
 */
export const logLevels = ["all", "trace", "debug", "info", "warning", "error", "fatal", "none"] as const
type LogLevel = (typeof logLevels)[number]

/**
 * What keeps a process's descendants together: nothing but the process table, or a PID namespace.
 *
 * @category utilities
 */
export const containments = ["none", "namespace"] as const
type Containment = (typeof containments)[number]

/**
 * What is kept of a process's output beyond the limits.
 *
 * @category utilities
 */
export const retentions = ["tail", "head-tail"] as const
type Retention = (typeof retentions)[number]

/**
 * How a log looks: text for people, or one JSON object a line.
 *
 * @category utilities
 */
export const logFormats = ["text", "json"] as const
type LogFormat = (typeof logFormats)[number]

/**
 * How clients may have to authenticate.
 *
 * @category utilities
 */
export const authModes = ["capability-token", "signed-bearer-token"] as const
type AuthMode = (typeof authModes)[number]

/**
 * How the text of a setting is read; a list is separated by commas.
 *
 * @category models
 */
export type Kind = "count" | "flag" | "text" | "choice" | "list"

/**
 * One setting.
 *
 * @category models
 */
export interface Setting<K extends Kind, Default> {
  readonly kind: K
  readonly default: Default
  /** The default in words. */
  readonly shown: string
  /** In one line. */
  readonly help: string
  /** The heading that it stands under in the help. */
  readonly group: string
  /** What stands for its value in the help; FILE is completed by shells. */
  readonly placeholder: string
  /** Of a count. */
  readonly minimum: number
  /** Of a choice. */
  readonly choices: ReadonlyArray<string>
  /** Not to be shown. */
  readonly secret: boolean
  /** The original's environment variable for it, which is read where ours is not set. */
  readonly originalVariable: string | undefined
}

const placeholders: { readonly [K in Kind]: string } = {
  count: "N",
  flag: "true|false",
  text: "TEXT",
  choice: "WORD",
  list: "TEXT,..."
}

const make = <K extends Kind, Default>(
  kind: K,
  value: Default,
  help: string,
  more: Partial<Setting<K, Default>> = {}
): Setting<K, Default> => ({
  kind,
  default: value,
  shown: String(value ?? "none"),
  help,
  group: "",
  placeholder: placeholders[kind],
  minimum: 0,
  choices: [],
  secret: false,
  originalVariable: undefined,
  ...more
})

const count = (value: number, help: string, minimum = 0) => make("count", value, help, { minimum })
const flag = (value: boolean, help: string) => make("flag", value, help)
/** A text that may be missing. */
const maybe = (help: string, more: Partial<Setting<"text", string | undefined>> = {}) =>
  make<"text", string | undefined>("text", undefined, help, more)
const file = (help: string) => maybe(help, { placeholder: "FILE" })

/** Settings under one heading. */
const under = <S extends Readonly<Record<string, Setting<Kind, unknown>>>>(group: string, members: S): S =>
  // The same settings, each with its group.
  Object.fromEntries(Object.entries(members).map(([key, setting]) => [key, { ...setting, group }])) as S

/**
 * All settings, by configuration key.
 *
 * @category utilities
 */
export const settings = {
  ...under("Where it listens", {
    listen: make("text", "stdio://", "where to listen: stdio, ws://IP:PORT (port 0: any free one) or unix:///PATH", {
      placeholder: "URL"
    }),
    tlsCert: file("a file with the certificate chain, in PEM, to serve TLS with"),
    tlsKey: file("a file with the certificate's private key, in PEM"),
    exitOnStdinClose: make("flag", false, "end in order when stdin is closed, as on SIGTERM", {
      originalVariable: "CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE"
    })
  }),
  ...under("Who may connect", {
    insecure: flag(false, "listen on a public address although nobody has to authenticate"),
    allowLocalUsers: flag(false, "let other users of this machine connect although nobody has to authenticate"),
    allowOrigin: make<"list", ReadonlyArray<string>>(
      "list",
      [],
      "origins of web pages that may connect, such as https://example.com, separated by commas",
      { shown: "none", placeholder: "ORIGIN,..." }
    ),
    wsAuth: make<"choice", AuthMode | undefined>(
      "choice",
      undefined,
      `how WebSocket clients authenticate, with a bearer token: ${authModes.join(" or ")}`,
      { choices: authModes, placeholder: "MODE" }
    ),
    wsTokenFile: file("a file that holds the capability token"),
    wsTokenSha256: maybe("the SHA-256 of the capability token, in hex", { secret: true, placeholder: "HEX" }),
    wsSharedSecretFile: file("a file that holds the secret, of 32 bytes or more, that signs bearer tokens"),
    wsIssuer: maybe("the `iss` that signed bearer tokens must have"),
    wsAudience: maybe("the `aud` that signed bearer tokens must have"),
    // Without a value unless given: it is an error to give it where nothing is signed.
    wsMaxClockSkewSeconds: make<"count", number | undefined>(
      "count",
      undefined,
      "how far the clock of whoever signs bearer tokens may be off, in seconds",
      { shown: "30" }
    )
  }),
  ...under("Dialing out instead of listening", {
    remote: maybe("base URL of an environment registry: register there and serve over a rendezvous", {
      placeholder: "URL"
    }),
    environmentId: maybe("the environment to register as", { placeholder: "ID" }),
    name: make("text", "codex-exec-server", "a name for this executor; taken and not sent", { placeholder: "NAME" }),
    remoteTokenFile: file("a file with the bearer token for the registry, instead of EXEC_SERVER_REMOTE_TOKEN")
  }),
  ...under("Logs", {
    logLevel: make<"choice", LogLevel>("choice", "warning", `how much to log on stderr: ${logLevels.join(", ")}`, {
      choices: logLevels,
      placeholder: "LEVEL"
    }),
    logFormat: make<"choice", LogFormat>("choice", "text", "text for people, or json: one object a line", {
      choices: logFormats,
      placeholder: "FORMAT"
    }),
    auditLog: file("a file, of mode 0600, to which is appended who started, signalled and ended what"),
    otlpEndpoint: maybe("base URL of an OpenTelemetry collector, such as http://127.0.0.1:4318, to send spans to", {
      placeholder: "URL"
    })
  }),
  ...under("Connections", {
    maxConnections: count(transports.maxConnections, "WebSocket connections at a time", 1),
    handshakeTimeoutMs: count(
      sessions.handshakeTimeoutMs,
      "how long a connection may take to be accepted, and then to initialize, in ms",
      1
    ),
    pingIntervalMs: count(
      transports.pingIntervalMs,
      "time between pings; a client that leaves three unanswered is cut off; in ms",
      1
    ),
    concurrentRequests: count(
      sessions.concurrentRequests,
      "requests of one connection that are served at a time; further ones wait",
      1
    ),
    requestBytesTotal: count(
      sessions.requestBytesTotal,
      "requests of all connections without an answer, in bytes; further ones are refused",
      1
    ),
    // To the WebSocket library 0 means that there is no limit.
    maxMessageBytes: count(transports.maxMessageBytes, "longest message that is read, in bytes", 1),
    unfinishedMessageBytesTotal: count(
      transports.unfinishedMessageBytesTotal,
      "messages of all connections that have not arrived in full, in bytes; the largest is cut off",
      1
    ),
    maxHttpRequestsPerConnection: count(
      http.maxHttpRequestsPerConnection,
      "HTTP exchanges of one connection under way"
    ),
    httpBufferBytesPerConnection: count(
      http.httpBufferBytesPerConnection,
      "HTTP bodies of one connection that are not streamed, in bytes"
    )
  }),
  ...under("Sessions", {
    maxSessions: count(sessions.maxSessions, "sessions, attached or waiting for their client"),
    maxProcessesPerSession: count(processes.maxProcessesPerSession, "processes of one session that are not closed"),
    detachedSessionTtlMs: count(
      sessions.detachedSessionTtlMs,
      "how long a session waits for its client to come back, in milliseconds"
    ),
    closedProcessRetentionMs: count(
      processes.closedProcessRetentionMs,
      "how long a closed process can still be read, in milliseconds"
    ),
    shutdownGracePeriodMs: count(
      processes.shutdownGracePeriodMs,
      "time between SIGTERM and SIGKILL when the server ends, in milliseconds"
    )
  }),
  ...under("Processes", {
    retain: make<"choice", Retention>(
      "choice",
      processes.retain,
      "what is kept of output beyond the limits: tail (the newest) or head-tail (the beginning and the end)",
      { choices: retentions }
    ),
    retainedOutputBytesPerProcess: count(
      processes.retainedOutputBytesPerProcess,
      "output kept of one process, in bytes; see --retain"
    ),
    retainedOutputBytesTotal: count(
      processes.retainedOutputBytesTotal,
      "output kept of all processes, in bytes; closed processes give way first"
    ),
    stdinQueueBytesPerProcess: count(
      processes.stdinQueueBytesPerProcess,
      "input waiting for one process, in bytes; then a write waits"
    ),
    processBytesPerSession: count(
      processes.processBytesPerSession,
      "kept for the processes of one session besides output (ids, arguments, waiting input), in bytes"
    ),
    processBytesTotal: count(
      processes.processBytesTotal,
      "the same for all sessions, in bytes; each has 256 KiB in any case"
    ),
    contain: make<"choice", Containment>(
      "choice",
      "none",
      "none, or namespace: each process in a PID namespace of its own, which nothing outlives (needs bubblewrap)",
      { choices: containments }
    ),
    allowDirectExec: flag(processes.allowDirectExec, "start processes on plain requests"),
    allowPreparedExec: flag(processes.allowPreparedExec, "start processes on requests marked prepared")
  })
} as const

/**
 * A configuration key.
 *
 * @category models
 */
export type Key = keyof typeof settings

/**
 * The effective value of every setting.
 *
 * @category models
 */
export type ServerConfig = { readonly [K in Key]: (typeof settings)[K]["default"] }

/**
 * Texts by key: flags, the environment, or a file's values written out.
 *
 * @category models
 */
export type Texts = { readonly [K in Key]?: string | undefined }

/**
 * All configuration keys.
 *
 * @category utilities
 */
export const keys = Object.keys(settings) as ReadonlyArray<Key>

/**
 * `maxSessions` as a flag: `max-sessions`.
 *
 * @category utilities
 */
export const flagName = (key: Key): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/**
 * Whether the flag takes no value: it switches on what is off without it.
 *
 * @category utilities
 */
export const isSwitch = (key: Key): boolean => settings[key].default === false

/**
 * `maxSessions` as an environment variable: `EXEC_SERVER_MAX_SESSIONS`.
 *
 * @category utilities
 */
export const variableName = (key: Key): string => `EXEC_SERVER_${flagName(key).replaceAll("-", "_").toUpperCase()}`

/** The environment variables of a setting; the first one that is set counts. */
const variablesOf = (key: Key): ReadonlyArray<string> => {
  const { originalVariable } = settings[key]
  return originalVariable === undefined ? [variableName(key)] : [variableName(key), originalVariable]
}

/**
 * Every setting as it is where nobody says anything else.
 *
 * @category utilities
 */
export const defaults: ServerConfig = Object.fromEntries(
  keys.map((key) => [key, settings[key].default])
  // The default of every key's own setting.
) as ServerConfig

/**
 * What a setting can be.
 *
 * @category models
 */
export type Value = number | boolean | string | ReadonlyArray<string>

/**
 * Every setting's value with where it came from, in words.
 *
 * @category models
 */
export type Resolved = {
  readonly [K in Key]: { readonly value: Value | undefined; readonly source: string }
}

const parse = (key: Key, value: string, source: string): Value => {
  const fail = (expected: string): never => {
    throw new ConfigError({ message: `${source}: ${JSON.stringify(value)} is not ${expected}` })
  }
  const { kind, minimum, choices, placeholder } = settings[key]
  switch (kind) {
    case "count":
      return /^\d{1,15}$/.test(value) && Number(value) >= minimum
        ? Number(value)
        : fail(`a whole number of ${minimum} or more`)
    case "flag":
      return value === "true" ? true : value === "false" ? false : fail("true or false")
    case "choice":
      return choices.includes(value) ? value : fail(`one of ${choices.join(", ")}`)
    case "list":
      return value
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== "")
    case "text":
      return value === "" && placeholder === "FILE" ? fail("the name of a file; leave it out instead") : value
  }
}

const isText = (value: unknown) => typeof value === "string"

/** What a configuration file may say for each kind of setting. */
const inFile: { readonly [K in Kind]: { readonly is: (value: unknown) => boolean; readonly words: string } } = {
  count: { is: (value) => typeof value === "number", words: "a number" },
  flag: { is: (value) => typeof value === "boolean", words: "a boolean" },
  text: { is: isText, words: "a string" },
  choice: { is: isText, words: "a string" },
  list: { is: (value) => isText(value) || (Array.isArray(value) && value.every(isText)), words: "a list of strings" }
}

/** Does something with a file, and says in the words of an error why it failed. */
const attempt = <A>(path: string, use: () => A, Failure: typeof ConfigError | typeof ConfigUnreadable): A => {
  try {
    return use()
  } catch (error) {
    const why = error instanceof TOML.TomlError ? error.message.split("\n", 1)[0] : OsError.describe(error)
    throw new Failure({ message: `cannot read the configuration file ${path}: ${why}` })
  }
}

const readFile = (path: string): Texts => {
  const text = attempt(path, () => readFileSync(path, "utf8"), ConfigUnreadable)
  const content: { readonly [key: string]: unknown } = attempt(path, () => TOML.parse(text), ConfigError)
  for (const [key, value] of Object.entries(content)) {
    const known = keys.find((known) => known === key)
    if (known === undefined) {
      throw new ConfigError({ message: `${path}: unknown key ${key}; the keys are ${keys.join(", ")}` })
    }
    const { is, words } = inFile[settings[known].kind]
    if (!is(value)) throw new ConfigError({ message: `${path}: ${key} must be ${words}` })
  }
  return Object.fromEntries(Object.entries(content).map(([key, value]) => [key, String(value)]))
}

/**
 * The environment variable that names the configuration file, where no flag does.
 *
 * @category utilities
 */
export const fileVariable = "EXEC_SERVER_CONFIG"

/**
 * The path of the configuration file, if there is one.
 *
 * @category utilities
 */
export const fileOf = (fileFlag: string | undefined, environment: NodeJS.ProcessEnv): string | undefined =>
  fileFlag ?? environment[fileVariable]

/**
 * Flag before environment before file before default; with where each value came from.
 *
 * @category utilities
 */
export const resolve = (
  flags: Texts,
  environment: NodeJS.ProcessEnv,
  fileFlag: string | undefined
): Either.Either<Resolved, ConfigError | ConfigUnreadable> =>
  Either.try({
    try: () => {
      const file = fileOf(fileFlag, environment)
      if (file === "") {
        throw new ConfigError({ message: `${fileVariable}: "" is not the name of a file; leave it out instead` })
      }
      const filed = file === undefined ? {} : readFile(file)
      const value = (key: Key): Resolved[Key] => {
        const flag = flags[key]
        const name = `--${flagName(key)}`
        if (flag !== undefined) return { value: parse(key, flag, name), source: `flag ${name}` }
        for (const variable of variablesOf(key)) {
          const inherited = environment[variable]
          if (inherited !== undefined) {
            return { value: parse(key, inherited, variable), source: `environment ${variable}` }
          }
        }
        const written = filed[key]
        return written === undefined
          ? { value: settings[key].default, source: "default" }
          : { value: parse(key, written, `${file}: ${key}`), source: `file ${file}` }
      }
      return Object.fromEntries(keys.map((key) => [key, value(key)])) as Resolved
    },
    catch: (error) =>
      error instanceof ConfigError || error instanceof ConfigUnreadable
        ? error
        : new ConfigError({ message: String(error) })
  })

/**
 * The values alone.
 *
 * @category utilities
 */
export const valuesOf = (resolved: Resolved): ServerConfig =>
  // Every value was read by the kind of its own setting.
  Object.fromEntries(keys.map((key) => [key, resolved[key].value])) as ServerConfig

/**
 * Reads all settings: flag before environment before file before default.
 *
 * @category utilities
 */
export const load = (
  flags: Texts,
  environment: NodeJS.ProcessEnv,
  file: string | undefined
): Either.Either<ServerConfig, ConfigError | ConfigUnreadable> =>
  Either.map(resolve(flags, environment, file), valuesOf)

/**
 * All settings, from whatever `ConfigProvider` there is, under the names of the environment variables
 * (`EXEC_SERVER_MAX_SESSIONS`); what it does not have is the default. Checked as on the command line.
 *
 * @category utilities
 */
export const config: Config.Config<ServerConfig> = Config.all(
  Object.fromEntries(
    keys.flatMap(variablesOf).map((name) => [name, Config.withDefault(Config.string(name), undefined)])
  )
).pipe(
  Config.mapOrFail((variables) =>
    Either.mapLeft(load({}, variables, undefined), ({ message }) => EffectConfigError.InvalidData([], message))
  )
)
