/**
 * The limits of a whole server: of its sessions, processes, HTTP exchanges and transports.
 *
 * Limits are references with defaults, which services read when they are built. So this layer is provided last, after
 * the transport and the services: what is provided later is built first, and everything before it sees the limits.
 * Provided before them it would have no effect on them; the server then fails to build, with a defect that says so.
 *
 * ```ts
 * const server = ExecServer.layer.pipe(
 *   Layer.provide(WebSocket.layer({ host: "127.0.0.1", port: 0 })),
 *   Layer.provide(NodeServices.layer),
 *   Layer.provide(Limits.layer({ maxSessions: 16, detachedSessionTtl: "5 minutes" }))
 * )
 * ```
 *
 * The settings of the command are the same limits; there a time is a number of milliseconds and its name ends with `Ms`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { HttpLimits, type Limits as OfHttp, defaults as ofHttp } from "../http/HttpLimits.js"
import { LateLimits } from "../internal/LateLimits.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { type Limits as OfProcesses, defaults as ofProcesses, ProcessLimits } from "../process/ProcessLimits.js"
import { type Limits as OfSessions, defaults as ofSessions, SessionLimits } from "../session/SessionLimits.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { Transport } from "../transport/Transport.js"
import { type Limits as OfTransports, defaults as ofTransports, TransportLimits } from "../transport/TransportLimits.js"
import * as ServerConfig from "./ServerConfig.js"

/**
 * The limits to change. Counts and bytes are whole numbers; a time is a duration, a bare number of it milliseconds.
 *
 * @category models
 */
export interface Options {
  /** Sessions, attached or waiting for their client; 1024. */
  readonly maxSessions?: number | undefined
  /** How long a session waits for its client to come back; 30 seconds. */
  readonly detachedSessionTtl?: Duration.DurationInput | undefined
  /** How long a connection may take to become a session: first to be accepted, then to `initialized`; 10 seconds. */
  readonly handshakeTimeout?: Duration.DurationInput | undefined
  /** Requests of one connection that are served at a time; further ones wait, in order; 4096. */
  readonly concurrentRequests?: number | undefined
  /** Requests of all connections without an answer, of which each has 256 KiB in any case, in bytes; 256 MiB. */
  readonly requestBytesTotal?: number | undefined
  /** Processes of one session that are not closed; 1024. */
  readonly maxProcessesPerSession?: number | undefined
  /** What is kept of output beyond the limits: the newest (`tail`, the default), or the beginning and the end. */
  readonly retain?: "tail" | "head-tail" | undefined
  /** Output kept of one process, in bytes; 1 MiB. */
  readonly retainedOutputBytesPerProcess?: number | undefined
  /** Output kept of all processes, in bytes; closed processes give way first; 256 MiB. */
  readonly retainedOutputBytesTotal?: number | undefined
  /** Input that waits for one process, in bytes; then a write waits; 4 MiB. */
  readonly stdinQueueBytesPerProcess?: number | undefined
  /** What is kept for the processes of one session besides output, in bytes: ids, arguments, input; 64 MiB. */
  readonly processBytesPerSession?: number | undefined
  /** The same for all sessions, of which each has 256 KiB in any case; 256 MiB. */
  readonly processBytesTotal?: number | undefined
  /** How long a closed process can still be read, and its id is taken; 30 seconds. */
  readonly closedProcessRetention?: Duration.DurationInput | undefined
  /** How long processes have between SIGTERM and SIGKILL when the server ends; 2 seconds. */
  readonly shutdownGracePeriod?: Duration.DurationInput | undefined
  /** Whether plain requests may start processes; true. */
  readonly allowDirectExec?: boolean | undefined
  /** Whether requests marked `prepared` may start processes; true. */
  readonly allowPreparedExec?: boolean | undefined
  /** HTTP exchanges of one connection under way; 256. */
  readonly maxHttpRequestsPerConnection?: number | undefined
  /** HTTP bodies of one connection that are not streamed, in bytes; 64 MiB. */
  readonly httpBufferBytesPerConnection?: number | undefined
  /** The longest message that is read, in bytes; 64 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** Messages of all WebSocket connections that have not arrived in full, in bytes; 256 MiB. */
  readonly unfinishedMessageBytesTotal?: number | undefined
  /** WebSocket connections at a time; 1024. */
  readonly maxConnections?: number | undefined
  /** Time between pings on WebSocket; a client that leaves three unanswered is cut off; 30 seconds. */
  readonly pingInterval?: Duration.DurationInput | undefined
}

/** The limits as services read them: times in milliseconds. */
interface Values extends OfProcesses, OfSessions, OfHttp, OfTransports {}

/** The key of each limit, by the name of its option. */
const keys = new Map(
  Object.keys({ ...ofProcesses, ...ofSessions, ...ofHttp, ...ofTransports } satisfies Values).map(
    // The limits are settings.
    (key) => [key.replace(/Ms$/, ""), key as keyof Values] as const
  )
)

/** The value of one option as services read it; undefined if it is invalid. */
const accepted = (key: keyof Values, value: unknown): unknown => {
  const { kind, minimum, choices } = ServerConfig.settings[key]
  if (kind === "flag") return typeof value === "boolean" ? value : undefined
  if (kind === "choice") return choices.some((choice) => choice === value) ? value : undefined
  if (key.endsWith("Ms")) {
    const ms = Option.map(Duration.decodeUnknown(value), Duration.toMillis)
    return Option.getOrUndefined(Option.filter(ms, (ms) => ms >= minimum))
  }
  return typeof value === "number" && Number.isSafeInteger(value) && value >= minimum ? value : undefined
}

const expected = (key: keyof Values): string => {
  const { kind, minimum, choices } = ServerConfig.settings[key]
  if (kind === "flag") return "true or false"
  if (kind === "choice") return `one of ${choices.join(", ")}`
  return key.endsWith("Ms") ? `a duration of ${minimum} ms or more` : `a whole number of ${minimum} or more`
}

/** The given limits as services read them, or the error. */
const read = (options: Options): Either.Either<Partial<Values>, string> => {
  const values: Array<readonly [string, unknown]> = []
  for (const [name, value] of Object.entries(options)) {
    const key = keys.get(name)
    if (key === undefined) return Either.left(`${name} is not a limit; the limits are ${[...keys.keys()].join(", ")}`)
    if (value === undefined) continue
    const found = accepted(key, value)
    if (found === undefined) return Either.left(`${name}: ${JSON.stringify(value)} is not ${expected(key)}`)
    values.push([key, found])
  }
  // Each value was read by the kind of its own setting.
  return Either.right(Object.fromEntries(values) as Partial<Values>)
}

/** The limits of one reference, with its own among those given in place of what they were. */
const replaced = <L extends object>(current: L, given: Partial<Values>): L => ({
  ...current,
  ...Object.fromEntries(Object.entries(given).filter(([key]) => key in current))
})

/** A service that reads limits when it is built. */
interface Reader {
  /** The service among those at hand, if it is there. */
  readonly find: (context: Context.Context<never>) => Option.Option<object>
  readonly reads: ReadonlyArray<keyof Values>
}

const readers: ReadonlyArray<Reader> = [
  {
    find: Context.getOption(Transport),
    reads: ["maxMessageBytes", "unfinishedMessageBytesTotal", "maxConnections", "pingIntervalMs", "handshakeTimeoutMs"]
  },
  {
    find: Context.getOption(OutputBuffer),
    reads: ["retain", "retainedOutputBytesPerProcess", "retainedOutputBytesTotal"]
  },
  {
    find: Context.getOption(SessionRegistry),
    reads: [
      "maxSessions",
      "detachedSessionTtlMs",
      "requestBytesTotal",
      "maxProcessesPerSession",
      "stdinQueueBytesPerProcess",
      "processBytesPerSession",
      "processBytesTotal",
      "closedProcessRetentionMs",
      "allowDirectExec",
      "allowPreparedExec"
    ]
  }
]

/** The services at hand that were built without these limits, each with the names of those it reads. */
const builtWithout = (context: Context.Context<never>, limits: ReadonlySet<string>) =>
  readers.flatMap(({ find, reads }) => {
    const names = reads.filter((key) => limits.has(key)).map((key) => key.replace(/Ms$/, ""))
    return names.length === 0 ? [] : Option.toArray(Option.map(find(context), (service) => [service, names] as const))
  })

/** All limits, those that are not given as they are around this layer. */
const changed = (given: Partial<Values>): Effect.Effect<Context.Context<never>> =>
  Effect.gen(function* () {
    const processes = yield* ProcessLimits
    const sessions = yield* SessionLimits
    const http = yield* HttpLimits
    const transports = yield* TransportLimits
    const current: Values = { ...processes, ...sessions, ...http, ...transports }
    const differing = Object.entries(given).filter(([key, value]) => current[key as keyof Values] !== value)
    const late = builtWithout(yield* Effect.context<never>(), new Set(differing.map(([key]) => key)))
    return Context.empty().pipe(
      Context.add(LateLimits, new Map([...(yield* LateLimits), ...late])),
      Context.add(ProcessLimits, replaced(processes, given)),
      Context.add(SessionLimits, replaced(sessions, given)),
      Context.add(HttpLimits, replaced(http, given)),
      Context.add(TransportLimits, replaced(transports, given))
    )
  })

/**
 * The limits of everything that this layer is provided to; those that are not given stay as they are. An invalid
 * limit is a defect, whose message names it; so is one for a transport or a service that was built before.
 *
 * @category layers
 * @example
 * Layer.provide(Limits.layer({ maxSessions: 16, shutdownGracePeriod: "5 seconds" }))
 */
export const layer = (options: Options): Layer.Layer<never> =>
  Layer.effectContext(
    Effect.suspend(() =>
      Either.match(read(options), { onLeft: (why) => Effect.die(new RangeError(why)), onRight: changed })
    )
  )

/**
 * The limits from wherever configuration comes from: `Limits.config`, or a `Config` of the application's own names.
 *
 * @category layers
 * @example
 * Layer.provide(Limits.layerConfig({ maxSessions: Config.integer("MAX_SESSIONS") }))
 */
export const layerConfig = (options: Config.Config.Wrap<Options>): Layer.Layer<never, ConfigError.ConfigError> =>
  Layer.effectContext(
    Effect.flatMap(Config.unwrap(options), (options) =>
      Either.match(read(options), {
        onLeft: (why) => Effect.fail(ConfigError.InvalidData([], why)),
        onRight: changed
      })
    )
  )

/**
 * All limits under the names of the command's environment variables, such as `EXEC_SERVER_MAX_SESSIONS` and
 * `EXEC_SERVER_SHUTDOWN_GRACE_PERIOD_MS`; what the `ConfigProvider` does not have is the default.
 *
 * @category config
 */
export const config: Config.Config<Options> = Config.map(
  ServerConfig.config,
  // The same limits under the names of the options; a number of milliseconds is a duration.
  (settings): Options => Object.fromEntries(Array.from(keys, ([name, key]) => [name, settings[key]]))
)

/**
 * The limits among the settings of the command.
 *
 * @category context
 */
export const ofSettings = (settings: ServerConfig.ServerConfig): Context.Context<never> =>
  Context.empty().pipe(
    Context.add(ProcessLimits, settings),
    Context.add(SessionLimits, settings),
    Context.add(HttpLimits, settings),
    Context.add(TransportLimits, settings)
  )
