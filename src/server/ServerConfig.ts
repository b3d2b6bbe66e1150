/**
 * Every setting of the server, in one table. Flags, environment variables and configuration keys derive from it.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Config from "effect/Config"
import * as EffectConfigError from "effect/ConfigError"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as TOML from "smol-toml"
import { defaults as files } from "../filesystem/FileLimits.js"
import { defaults as http } from "../http/HttpLimits.js"
import { isServerSecret } from "../internal/ServerSecrets.js"
import { item as limitItem } from "../process/LimitWords.js"
import { defaults as processes } from "../process/ProcessLimits.js"
import * as OsError from "../protocol/OsError.js"
import { defaults as recordings } from "../session/RecordingStore.js"
import { defaults as sessions } from "../session/SessionLimits.js"
import { defaultMaxShares as maxShares } from "../session/Shares.js"
import { defaults as transports } from "../transport/TransportLimits.js"

/**
 * A setting is invalid. The message names it, its origin and its valid values.
 *
 * @category errors
 */
export class ConfigError extends Data.TaggedError("ConfigError")<{ readonly message: string }> {}

/**
 * The configuration file cannot be read. The message says which one, and why.
 *
 * @category errors
 */
export class ConfigUnreadable extends Data.TaggedError("ConfigUnreadable")<{ readonly message: string }> {}

/**
 * Log levels, from everything to nothing.
 *
 * @category utilities
 */
export const logLevels = ["all", "trace", "debug", "info", "warning", "error", "fatal", "none"] as const
type LogLevel = (typeof logLevels)[number]

/**
 * How the descendants of a process are found: by the process table, or by a PID namespace.
 *
 * @category utilities
 */
export const containments = ["none", "namespace"] as const
type Containment = (typeof containments)[number]

/**
 * Whether what goes through a rendezvous is encrypted.
 *
 * @category utilities
 */
export const remoteProfiles = ["auto", "noise", "legacy"] as const
type RemoteProfile = (typeof remoteProfiles)[number]

/**
 * How clients come to an executor.
 *
 * @category utilities
 */
export const remoteTransports = ["relay", "direct"] as const
type RemoteTransport = (typeof remoteTransports)[number]

/**
 * Which output of a process is retained when limits are exceeded.
 *
 * @category utilities
 */
export const retentions = ["tail", "head-tail"] as const
type Retention = (typeof retentions)[number]

/**
 * The format of logs: text for people, or one JSON object per line.
 *
 * @category utilities
 */
export const logFormats = ["text", "json"] as const
type LogFormat = (typeof logFormats)[number]

/**
 * How clients authenticate.
 *
 * @category utilities
 */
export const authModes = ["capability-token", "signed-bearer-token"] as const
type AuthMode = (typeof authModes)[number]

/**
 * How the text of a setting is parsed. A list is separated by commas.
 *
 * @category models
 */
export type Kind = "count" | "flag" | "text" | "choice" | "list"

/**
 * What a list may hold, in words as well: "is not ...".
 *
 * @category models
 */
export interface Item {
  readonly is: (text: string) => boolean
  readonly words: string
}

const anyText: Item = { is: () => true, words: "a text" }

const sendableVariable: Item = {
  is: (name) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !isServerSecret(name),
  words: "the name of a variable that can be sent: letters, digits and _, and no secret of the server itself"
}

/**
 * One setting.
 *
 * @category models
 */
export interface Setting<K extends Kind, Default> {
  readonly kind: K
  readonly default: Default
  /** The default as text. */
  readonly shown: string
  /** One line. */
  readonly help: string
  /** Its heading in the help. */
  readonly group: string
  /** The placeholder of its value in the help; shells complete FILE. */
  readonly placeholder: string
  /** The smallest value of a count. */
  readonly minimum: number
  /** The values of a choice. */
  readonly choices: ReadonlyArray<string>
  /** Of a list: the texts that it may contain. */
  readonly item: Item
  /** Whether its value must not be shown. */
  readonly secret: boolean
  /** The original's environment variable, which is read if ours is not set. */
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
  item: anyText,
  secret: false,
  originalVariable: undefined,
  ...more
})

const count = (value: number, help: string, minimum = 0) => make("count", value, help, { minimum })
const flag = (value: boolean, help: string) => make("flag", value, help)
/** An optional text. */
const maybe = (help: string, more: Partial<Setting<"text", string | undefined>> = {}) =>
  make<"text", string | undefined>("text", undefined, help, more)
const file = (help: string) => maybe(help, { placeholder: "FILE" })

/** Puts settings under a heading of the help. */
const under = <S extends Readonly<Record<string, Setting<Kind, unknown>>>>(group: string, members: S): S =>
  // The same settings, with their group.
  Object.fromEntries(Object.entries(members).map(([key, setting]) => [key, { ...setting, group }])) as S

/**
 * All settings, by configuration key.
 *
 * @category utilities
 */
export const settings = {
  ...under("Where it listens", {
    listen: make(
      "text",
      "stdio://",
      "where to listen: stdio, ws://IP:PORT (port 0: any free one), unix:///PATH, or fd://: a socket that systemd passes",
      {
        placeholder: "URL"
      }
    ),
    tlsCert: file("a file with the certificate chain, in PEM, to serve TLS with"),
    tlsKey: file("a file with the certificate's private key, in PEM"),
    exitOnStdinClose: make("flag", false, "shut down when stdin is closed, as on SIGTERM", {
      originalVariable: "CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE"
    })
  }),
  ...under("Who may connect", {
    insecure: flag(false, "listen on a public address without authentication"),
    allowLocalUsers: flag(false, "let other users of this machine connect without authentication"),
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
    wsTokenFile: file("a file with the capability token"),
    wsTokenSha256: maybe("the SHA-256 of the capability token, in hex", { secret: true, placeholder: "HEX" }),
    wsSharedSecretFile: file("a file with the secret of signed bearer tokens, 32 bytes or more"),
    wsIssuer: maybe("the `iss` that signed bearer tokens must have"),
    wsAudience: maybe("the `aud` that signed bearer tokens must have"),
    consoleTokenFile: file("a file that holds the token of operators, who may do everything in all sessions"),
    consoleViewerTokenFile: file("a file that holds the token of viewers, who may watch all sessions"),
    maxShares: count(maxShares, "most tokens that clients make to share a process"),
    console: make<"flag", boolean | undefined>(
      "flag",
      undefined,
      "serve the web console at /console; without a token file, make a token for it and print its address on stderr",
      { shown: "true on a loopback address or a unix socket" }
    ),
    publicUrl: maybe("the address of the server in browsers, such as https://example.com/tools, if a proxy serves it", {
      placeholder: "URL"
    }),
    // Undefined unless given: setting it without signed tokens is an error.
    wsMaxClockSkewSeconds: make<"count", number | undefined>(
      "count",
      undefined,
      "clock skew tolerated in signed bearer tokens, in seconds",
      { shown: "30" }
    )
  }),
  ...under("Dialing out instead of listening", {
    remote: maybe("base URL of an environment registry: register there and serve over a rendezvous", {
      placeholder: "URL"
    }),
    environmentId: maybe("the environment to register as", { placeholder: "ID" }),
    name: make("text", "codex-exec-server", "a name for this executor; accepted, but not sent", {
      placeholder: "NAME"
    }),
    remoteTokenFile: file("a file with the bearer token for the registry, instead of EXEC_SERVER_REMOTE_TOKEN"),
    remoteProfile: make<"choice", RemoteProfile>(
      "choice",
      "auto",
      "noise: encrypt end to end; legacy: the rendezvous reads everything; auto: as the registry answers",
      { choices: remoteProfiles, placeholder: "PROFILE" }
    ),
    remoteIdentity: file("keep the key of the encrypted relay in this file, made (mode 0600) if there is none"),
    remoteTransport: make<"choice", RemoteTransport>(
      "choice",
      "relay",
      "relay: clients come through a rendezvous; direct: dial one client, with requests signed by --aws-sigv4",
      { choices: remoteTransports, placeholder: "TRANSPORT" }
    ),
    labels: make<"list", ReadonlyArray<string>>(
      "list",
      [],
      "as a host of a fleet: what this machine has, such as gpu,eu, for clients that ask for it",
      { shown: "none", placeholder: "LABEL,..." }
    ),
    // Undefined unless given: it makes this server a host of a fleet.
    capacity: make<"count", number | undefined>(
      "count",
      undefined,
      "as a host of a fleet: most sessions that its gateways place here",
      { shown: "--max-sessions", placeholder: "N" }
    ),
    awsSigv4: flag(false, "sign requests by AWS Signature Version 4, for --remote-transport direct"),
    awsProfile: maybe("the profile with the keys, instead of AWS_ACCESS_KEY_ID or AWS_PROFILE", {
      placeholder: "PROFILE"
    }),
    awsRegion: maybe("the region of the registry, instead of AWS_REGION or that of the profile", {
      placeholder: "REGION"
    }),
    awsService: make("text", "execute-api", "the service that signatures are for", { placeholder: "SERVICE" })
  }),
  ...under("Logs", {
    logLevel: make<"choice", LogLevel>("choice", "warning", `how much to log on stderr: ${logLevels.join(", ")}`, {
      choices: logLevels,
      placeholder: "LEVEL"
    }),
    logFormat: make<"choice", LogFormat>("choice", "text", "text for people, or json: one object per line", {
      choices: logFormats,
      placeholder: "FORMAT"
    }),
    auditLog: file("append to this file (mode 0600) who started, signalled and ended what"),
    auditLogMaxBytes: count(
      67108864,
      "size at which the audit log is renamed to FILE.1 and started anew, in bytes; 0: never"
    ),
    otlpEndpoint: maybe("base URL of an OpenTelemetry collector, such as http://127.0.0.1:4318, to send spans to", {
      placeholder: "URL"
    })
  }),
  ...under("Connections", {
    maxConnections: count(
      transports.maxConnections,
      "most WebSocket connections, and most requests to /mcp at a time",
      1
    ),
    handshakeTimeoutMs: count(
      sessions.handshakeTimeoutMs,
      "how long a connection may take to be accepted, and then to initialize, in ms",
      1
    ),
    pingIntervalMs: count(
      transports.pingIntervalMs,
      "time between pings; a client that leaves three unanswered is disconnected; in ms",
      1
    ),
    concurrentRequests: count(
      sessions.concurrentRequests,
      "requests of one connection served at a time; further ones wait",
      1
    ),
    requestBytesTotal: count(
      sessions.requestBytesTotal,
      "requests of all connections without an answer, in bytes; further ones are refused",
      1
    ),
    // For the WebSocket library, 0 would mean no limit.
    maxMessageBytes: count(transports.maxMessageBytes, "longest message that is read, in bytes", 1),
    unfinishedMessageBytesTotal: count(
      transports.unfinishedMessageBytesTotal,
      "incomplete messages on all connections, in bytes; beyond it the largest is cut off",
      1
    ),
    maxHttpRequestsPerConnection: count(
      http.maxHttpRequestsPerConnection,
      "HTTP exchanges in progress on one connection"
    ),
    httpBufferBytesPerConnection: count(
      http.httpBufferBytesPerConnection,
      "unfinished HTTP bodies on one connection, unless streamed, in bytes"
    )
  }),
  ...under("Sessions", {
    maxSessions: count(sessions.maxSessions, "most sessions, attached or detached"),
    maxViewersPerProcess: count(sessions.maxViewersPerProcess, "most attachments of one process"),
    maxScreens: count(sessions.maxScreens, "most screens of terminals that are kept for attachments"),
    maxProcessesPerSession: count(processes.maxProcessesPerSession, "processes of one session that are not closed"),
    detachedSessionTtlMs: count(
      sessions.detachedSessionTtlMs,
      "how long a detached session waits to be resumed, in milliseconds"
    ),
    maxSessionTtlMs: make<"count", number | undefined>(
      "count",
      sessions.maxSessionTtlMs,
      "the longest such time that a client may ask for its session, in milliseconds; without it, also for ever",
      { shown: "no limit" }
    ),
    closedProcessRetentionMs: count(
      processes.closedProcessRetentionMs,
      "how long a closed process can still be read, in milliseconds"
    ),
    shutdownGracePeriodMs: count(
      processes.shutdownGracePeriodMs,
      "time between SIGTERM and SIGKILL when the server shuts down, in milliseconds"
    )
  }),
  ...under("Agents", {
    mcp: flag(false, "serve tools for agents at /mcp, by the Model Context Protocol over HTTP"),
    mcpIdleMs: count(
      3_600_000,
      "how long a subject may make no call to /mcp before its commands end, in milliseconds; requires mcp",
      1
    )
  }),
  ...under("Files and HTTP requests", {
    allowFiles: flag(files.allowFiles, "serve requests on files"),
    allowHttp: flag(http.allowHttp, "make HTTP requests for clients"),
    httpEnvAllow: make<"list", ReadonlyArray<string> | undefined>(
      "list",
      http.httpEnvAllow,
      "variables that headers of HTTP requests may name, separated by commas; an empty list for none",
      { shown: "all but the server's own secrets", placeholder: "NAME,...", item: sendableVariable }
    )
  }),
  ...under("Recordings", {
    recordingsDir: maybe(
      "keep recordings of what processes print in this folder (mode 0700); without it, there are none",
      {
        placeholder: "DIR"
      }
    ),
    maxRecordings: count(recordings.maxRecordings, "most recordings in the folder; beyond it none is made", 1),
    maxRecordingBytes: count(recordings.maxBytes, "most bytes of one recording; it ends there", 1),
    recordingBytesTotal: count(
      recordings.totalBytes,
      "most bytes of all recordings; they end there, and none is made",
      1
    )
  }),
  ...under("Processes", {
    retain: make<"choice", Retention>(
      "choice",
      processes.retain,
      "output kept when limits are exceeded: tail (the newest) or head-tail (the beginning and the end)",
      { choices: retentions }
    ),
    retainedOutputBytesPerProcess: count(
      processes.retainedOutputBytesPerProcess,
      "output kept of one process, in bytes; see --retain"
    ),
    retainedOutputBytesTotal: count(
      processes.retainedOutputBytesTotal,
      "output kept of all processes, in bytes; that of closed ones is dropped first"
    ),
    stdinQueueBytesPerProcess: count(
      processes.stdinQueueBytesPerProcess,
      "input queued for one process, in bytes; beyond it writes wait"
    ),
    processBytesPerSession: count(
      processes.processBytesPerSession,
      "memory of one session's processes besides output (ids, arguments, queued input), in bytes"
    ),
    processBytesTotal: count(
      processes.processBytesTotal,
      "the same for all sessions, in bytes; each may take 256 KiB in any case"
    ),
    contain: make<"choice", Containment>(
      "choice",
      "none",
      "none, or namespace: each process in its own PID namespace, whose processes end with it (needs bubblewrap)",
      { choices: containments }
    ),
    cgroup: make(
      "text",
      "auto",
      "where cgroups of processes are made: auto (in the server's own, if it may), none, or a folder of cgroup v2",
      { placeholder: "auto|none|DIR" }
    ),
    defaultLimits: make<"list", ReadonlyArray<string>>(
      "list",
      processes.defaultLimits,
      "limits of processes that ask for no others, such as memory=2g,pids=512; see Limits of processes",
      { shown: "none", placeholder: "NAME=VALUE,...", item: limitItem }
    ),
    maxLimits: make<"list", ReadonlyArray<string>>(
      "list",
      processes.maxLimits,
      "the most that a process may ask for, likewise; what it does not ask for is limited by this",
      { shown: "none", placeholder: "NAME=VALUE,...", item: limitItem }
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
 * Texts by key: from flags, from the environment, or from a file.
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
 * Whether the flag takes no value: it turns on a setting that is off by default.
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

/**
 * The environment variables of a setting. The first one that is set counts.
 *
 * @category utilities
 */
export const variablesOf = (key: Key): ReadonlyArray<string> => {
  const { originalVariable } = settings[key]
  return originalVariable === undefined ? [variableName(key)] : [variableName(key), originalVariable]
}

/**
 * The default of every setting.
 *
 * @category utilities
 */
export const defaults: ServerConfig = Object.fromEntries(
  keys.map((key) => [key, settings[key].default])
  // The cast is safe: each default belongs to its key.
) as ServerConfig

/**
 * A value of a setting.
 *
 * @category models
 */
export type Value = number | boolean | string | ReadonlyArray<string>

/**
 * Every setting's value, and its origin as text.
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
  const { kind, minimum, choices, placeholder, item } = settings[key]
  switch (kind) {
    case "count":
      return /^\d{1,15}$/.test(value) && Number(value) >= minimum
        ? Number(value)
        : fail(`a whole number of ${minimum} or more`)
    case "flag":
      return value === "true" ? true : value === "false" ? false : fail("true or false")
    case "choice":
      return choices.includes(value) ? value : fail(`one of ${choices.join(", ")}`)
    case "list": {
      const items = value.split(",").flatMap((text) => text.trim() || [])
      const wrong = items.find((text) => !item.is(text))
      if (wrong !== undefined)
        throw new ConfigError({ message: `${source}: ${JSON.stringify(wrong)} is not ${item.words}` })
      return items
    }
    case "text":
      return value === "" && (placeholder === "FILE" || placeholder === "DIR")
        ? fail(`the name of a ${placeholder === "FILE" ? "file" : "folder"}; leave it out instead`)
        : value
  }
}

const isText = (value: unknown) => typeof value === "string"

/** The JSON types of each kind of setting in a configuration file. */
const inFile: { readonly [K in Kind]: { readonly is: (value: unknown) => boolean; readonly words: string } } = {
  count: { is: (value) => typeof value === "number", words: "a number" },
  flag: { is: (value) => typeof value === "boolean", words: "a boolean" },
  text: { is: isText, words: "a string" },
  choice: { is: isText, words: "a string" },
  list: { is: (value) => isText(value) || (Array.isArray(value) && value.every(isText)), words: "a list of strings" }
}

/** Uses a file; an error becomes a sentence. */
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
 * The environment variable of the configuration file, used without a flag.
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
 * Resolves all settings and their origins. A flag wins over the environment, the environment over the file, the file
 * over the default.
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
 * The values without their origins.
 *
 * @category utilities
 */
export const valuesOf = (resolved: Resolved): ServerConfig =>
  // The cast is safe: each value was read by its own setting.
  Object.fromEntries(keys.map((key) => [key, resolved[key].value])) as ServerConfig

/**
 * Resolves all settings: flag before environment before file before default.
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
 * All settings from the current `ConfigProvider`, under the names of the environment variables
 * (`EXEC_SERVER_MAX_SESSIONS`). Missing ones have their defaults. Checked as on the command line.
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
