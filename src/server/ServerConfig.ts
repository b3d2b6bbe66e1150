/**
 * Every setting of the server: one table from which flags, environment variables and configuration keys derive.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as TOML from "smol-toml"
import * as OsError from "../process/OsError.js"
import { ProcessLimits } from "../process/ProcessLimits.js"
import * as Registration from "../remote/Registration.js"
import { SessionLimits } from "../session/SessionLimits.js"
import { TransportLimits } from "../transport/TransportLimits.js"
import type * as WebSocket from "../transport/WebSocket.js"

/** A setting could not be read; the message says which one, where it came from, and what it may be. */
export class ConfigError extends Data.TaggedError("ConfigError")<{ readonly message: string }> {}

/** Where the server listens; or the environment it registers as, instead. */
export type Listen = Data.TaggedEnum<{
  Stdio: object
  WebSocket: { readonly address: WebSocket.Address }
  Remote: { readonly target: Registration.Target }
}>
export const Listen = Data.taggedEnum<Listen>()

/** Words for how much is logged, from everything to nothing. */
export const logLevels = ["all", "trace", "debug", "info", "warning", "error", "fatal", "none"] as const

/** One setting: its kind decides how its text is read. */
export interface Setting<Kind extends "count" | "flag" | "text", Default> {
  readonly kind: Kind
  readonly default: Default
  readonly help: string
  /** Of a count. */
  readonly minimum: number
}

const count = (value: number, help: string, minimum = 0): Setting<"count", number> => ({
  kind: "count",
  default: value,
  help,
  minimum
})
const flag = (value: boolean, help: string): Setting<"flag", boolean> => ({
  kind: "flag",
  default: value,
  help,
  minimum: 0
})
const text = <T extends string>(value: T, help: string): Setting<"text", string> => ({
  kind: "text",
  default: value,
  help,
  minimum: 0
})

/** All settings, by configuration key. */
export const settings = {
  listen: text("stdio://", "where to listen: stdio, stdio:// or ws://IP:PORT (port 0: any free one)"),
  logLevel: text("warning", `how much to log on stderr: ${logLevels.join(", ")}`),
  insecure: flag(false, "listen on a public address although nobody has to authenticate"),
  remote: text("", "base URL of an environment registry: register there and serve over a rendezvous, do not listen"),
  environmentId: text("", "the environment to register as"),
  name: text("codex-exec-server", "a name for this executor; taken and not sent"),
  remoteTokenFile: text("", "a file with the bearer token for the registry, instead of EXEC_SERVER_REMOTE_TOKEN"),
  maxProcessesPerSession: count(1024, "processes of one session that are not closed"),
  maxSessions: count(1024, "sessions, attached or waiting for their client"),
  // To the WebSocket library 0 means that there is no limit.
  maxMessageBytes: count(67108864, "longest message that is read, in bytes", 1),
  retainedOutputBytesPerProcess: count(1048576, "output kept of one process, in bytes; the oldest gives way"),
  retainedOutputBytesTotal: count(268435456, "output kept of all processes, in bytes; closed processes give way first"),
  stdinQueueBytesPerProcess: count(4194304, "input waiting for one process, in bytes; then a write waits"),
  detachedSessionTtlMs: count(30000, "how long a session waits for its client to come back, in milliseconds"),
  closedProcessRetentionMs: count(30000, "how long a closed process can still be read, in milliseconds"),
  shutdownGracePeriodMs: count(2000, "time between SIGTERM and SIGKILL when the server ends, in milliseconds"),
  allowDirectExec: flag(true, "start processes on plain requests"),
  allowPreparedExec: flag(true, "start processes on requests marked prepared")
} as const

/** A configuration key. */
export type Key = keyof typeof settings

/** The effective value of every setting. */
export type ServerConfig = { readonly [K in Key]: (typeof settings)[K]["default"] }

/** Texts by key: flags, the environment, or a file's values written out. */
export type Texts = { readonly [K in Key]?: string | undefined }

const keys = Object.keys(settings) as ReadonlyArray<Key>

/** `maxSessions` as a flag: `max-sessions`. */
export const flagName = (key: Key): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** `maxSessions` as an environment variable: `EXEC_SERVER_MAX_SESSIONS`. */
export const variableName = (key: Key): string => `EXEC_SERVER_${flagName(key).replaceAll("-", "_").toUpperCase()}`

const parse = (key: Key, value: string, source: string): number | boolean | string => {
  const fail = (expected: string): never => {
    throw new ConfigError({ message: `${source}: ${JSON.stringify(value)} is not ${expected}` })
  }
  switch (settings[key].kind) {
    case "count":
      return /^\d{1,15}$/.test(value) && Number(value) >= settings[key].minimum
        ? Number(value)
        : fail(`a whole number of ${settings[key].minimum} or more`)
    case "flag":
      return value === "true" ? true : value === "false" ? false : fail("true or false")
    case "text":
      if (key === "logLevel" && !logLevels.some((level) => level === value)) fail(`one of ${logLevels.join(", ")}`)
      return value
  }
}

const readFile = (path: string): Texts => {
  let content: { readonly [key: string]: unknown }
  try {
    content = TOML.parse(readFileSync(path, "utf8"))
  } catch (error) {
    const why = error instanceof TOML.TomlError ? error.message.split("\n", 1)[0] : OsError.describe(error)
    throw new ConfigError({ message: `cannot read the configuration file ${path}: ${why}` })
  }
  for (const [key, value] of Object.entries(content)) {
    const known = keys.find((known) => known === key)
    if (known === undefined) {
      throw new ConfigError({ message: `${path}: unknown key ${key}; the keys are ${keys.join(", ")}` })
    }
    const type = typeof settings[known].default
    if (typeof value !== type) throw new ConfigError({ message: `${path}: ${key} must be a ${type}` })
  }
  return Object.fromEntries(Object.entries(content).map(([key, value]) => [key, String(value)]))
}

/** Flag before environment before file before default. */
export const load = (
  flags: Texts,
  environment: NodeJS.ProcessEnv,
  file: string | undefined
): Either.Either<ServerConfig, ConfigError> =>
  Either.try({
    try: () => {
      const filed = file === undefined ? {} : readFile(file)
      const value = (key: Key) => {
        const fromFlag = flags[key]
        if (fromFlag !== undefined) return parse(key, fromFlag, `--${flagName(key)}`)
        const fromEnvironment = environment[variableName(key)]
        if (fromEnvironment !== undefined) return parse(key, fromEnvironment, variableName(key))
        const fromFile = filed[key]
        return fromFile === undefined ? settings[key].default : parse(key, fromFile, `${file}: ${key}`)
      }
      // Every value was read by the kind of its own setting.
      return Object.fromEntries(keys.map((key) => [key, value(key)])) as ServerConfig
    },
    catch: (error) => (error instanceof ConfigError ? error : new ConfigError({ message: String(error) }))
  })

const loopback = /^(127\.|::1$|::ffff:127\.)/

/** Reads `--listen`, or `--remote` and `--environment-id`; the failures have the original's texts. A public address needs `insecure`. */
export const parseListen = (config: ServerConfig): Either.Either<Listen, ConfigError> => {
  const { listen, insecure, remote, environmentId } = config
  const fail = (message: string) => Either.left(new ConfigError({ message }))
  if (remote !== "" || environmentId !== "") {
    return Either.mapBoth(Registration.parseTarget(remote, environmentId), {
      onLeft: ({ message }) => new ConfigError({ message }),
      onRight: (target) => Listen.Remote({ target })
    })
  }
  if (listen === "stdio" || listen === "stdio://") return Either.right(Listen.Stdio())
  if (!listen.startsWith("ws://")) {
    return fail(`unsupported --listen URL \`${listen}\`; expected \`ws://IP:PORT\` or \`stdio\``)
  }
  const [, bracketed, plain, digits] = /^ws:\/\/(?:\[([^\]]*)\]|([^:[\]/]*)):(\d{1,5})$/.exec(listen) ?? []
  const host = bracketed ?? plain ?? ""
  const port = Number(digits)
  if (isIP(host) !== (bracketed === undefined ? 4 : 6) || port > 65535) {
    return fail(`invalid websocket --listen URL \`${listen}\`; expected \`ws://IP:PORT\``)
  }
  if (!loopback.test(host) && !insecure) {
    return fail(
      `refusing to listen on ${listen}: anybody who can reach it could run commands; ` +
        "listen on 127.0.0.1, or pass --insecure if something in front of it authenticates"
    )
  }
  return Either.right(Listen.WebSocket({ address: { host, port } }))
}

/** The limits of every service, as configured. */
export const layerLimits = (config: ServerConfig): Layer.Layer<never> =>
  Layer.mergeAll(
    Layer.succeed(ProcessLimits, config),
    Layer.succeed(SessionLimits, config),
    Layer.succeed(TransportLimits, config)
  )
