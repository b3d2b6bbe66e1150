/**
 * The limits of a whole server: of its sessions, processes, HTTP exchanges and transports.
 *
 * Limits are references with defaults, which services read when they are built. Provide this layer last, after the
 * transport and the services: a layer provided later is built earlier. Provided before them it would have no effect;
 * the server then fails to build, with a defect that says so.
 *
 * ```ts
 * const server = ExecServer.layer.pipe(
 *   Layer.provide(WebSocket.layer({ host: "127.0.0.1", port: 0 })),
 *   Layer.provide(NodeServices.layer),
 *   Layer.provide(Limits.layer({ maxSessions: 16, detachedSessionTtl: "5 minutes" }))
 * )
 * ```
 *
 * The command has the same limits as settings. There, times are milliseconds and their names end with `Ms`.
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
import { FileLimits, type Limits as OfFiles, defaults as ofFiles } from "../filesystem/FileLimits.js"
import { HttpLimits, type Limits as OfHttp, defaults as ofHttp } from "../http/HttpLimits.js"
import { LateLimits } from "../internal/LateLimits.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { type Limits as OfProcesses, defaults as ofProcesses, ProcessLimits } from "../process/ProcessLimits.js"
import { type Limits as OfSessions, defaults as ofSessions, SessionLimits } from "../session/SessionLimits.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { CgroupParent } from "../spawn/Cgroups.js"
import { Transport } from "../transport/Transport.js"
import { type Limits as OfTransports, defaults as ofTransports, TransportLimits } from "../transport/TransportLimits.js"
import * as ServerConfig from "./ServerConfig.js"

/**
 * The limits to change. Counts and bytes are whole numbers. Times are durations; a bare number means milliseconds.
 *
 * @category models
 */
export interface Options {
  /** Sessions, attached or detached; 1024. */
  readonly maxSessions?: number | undefined
  /** How long a detached session waits to be resumed; 30 seconds. */
  readonly detachedSessionTtl?: Duration.DurationInput | undefined
  /** The longest `sessionTtlMs` that a client may request; unlimited by default. */
  readonly maxSessionTtl?: Duration.DurationInput | undefined
  /** How long a connection may take to be accepted, and then again to send `initialized`; 10 seconds. */
  readonly handshakeTimeout?: Duration.DurationInput | undefined
  /** The most requests of one connection that are served at a time; further ones wait, in order; 4096. */
  readonly concurrentRequests?: number | undefined
  /** Requests of all connections without an answer, of which each has 256 KiB in any case, in bytes; 256 MiB. */
  readonly requestBytesTotal?: number | undefined
  /** Attachments of one process; 32. */
  readonly maxViewersPerProcess?: number | undefined
  /** Screens of terminals that are kept for attachments, each up to 3 MB; 64. */
  readonly maxScreens?: number | undefined
  /** Processes of one session that are not closed; 1024. */
  readonly maxProcessesPerSession?: number | undefined
  /**
   * Which output is retained when limits are exceeded: the newest (`tail`, the default), or the beginning and the end.
   */
  readonly retain?: "tail" | "head-tail" | undefined
  /** Retained output of one process, in bytes; 1 MiB. */
  readonly retainedOutputBytesPerProcess?: number | undefined
  /** Retained output of all processes, in bytes; that of closed ones is dropped first; 256 MiB. */
  readonly retainedOutputBytesTotal?: number | undefined
  /** Input queued for one process, in bytes; beyond it, writes wait; 4 MiB. */
  readonly stdinQueueBytesPerProcess?: number | undefined
  /** Memory of one session's processes besides output, in bytes: ids, arguments, input; 64 MiB. */
  readonly processBytesPerSession?: number | undefined
  /** The same for all sessions, each of which may take 256 KiB in any case; 256 MiB. */
  readonly processBytesTotal?: number | undefined
  /** How long a closed process can still be read; its id cannot be reused until then; 30 seconds. */
  readonly closedProcessRetention?: Duration.DurationInput | undefined
  /** The time between SIGTERM and SIGKILL when the server shuts down; 2 seconds. */
  readonly shutdownGracePeriod?: Duration.DurationInput | undefined
  /** Whether plain requests may start processes; true. */
  readonly allowDirectExec?: boolean | undefined
  /** Whether requests marked `prepared` may start processes; true. */
  readonly allowPreparedExec?: boolean | undefined
  /** Limits of processes that ask for no others, such as `["memory=2g", "pids=512"]`; none. */
  readonly defaultLimits?: ReadonlyArray<string> | undefined
  /** The most that a process may ask for, likewise; what it does not ask for is limited by this; none. */
  readonly maxLimits?: ReadonlyArray<string> | undefined
  /** Whether requests on files are served; true. */
  readonly allowFiles?: boolean | undefined
  /** Whether HTTP requests are made for clients; true. */
  readonly allowHttp?: boolean | undefined
  /** The variables of the environment that headers of HTTP requests may name; all but the server's own secrets. */
  readonly httpEnvAllow?: ReadonlyArray<string> | undefined
  /** HTTP exchanges in progress on one connection; 256. */
  readonly maxHttpRequestsPerConnection?: number | undefined
  /** Bodies of unfinished HTTP responses on one connection, unless streamed, in bytes; 64 MiB. */
  readonly httpBufferBytesPerConnection?: number | undefined
  /** The longest message that is read, in bytes; 64 MiB. */
  readonly maxMessageBytes?: number | undefined
  /** Bytes of incomplete messages on all WebSocket connections; 256 MiB. */
  readonly unfinishedMessageBytesTotal?: number | undefined
  /** The most WebSocket connections; 1024. */
  readonly maxConnections?: number | undefined
  /** The time between WebSocket pings; a client that leaves three unanswered is disconnected; 30 seconds. */
  readonly pingInterval?: Duration.DurationInput | undefined
}

/** The limits in the form that services read: times in milliseconds. */
interface Values extends OfProcesses, OfSessions, OfFiles, OfHttp, OfTransports {}

/** The key of each limit's setting, by the name of its option. */
const keys = new Map(
  Object.keys({ ...ofProcesses, ...ofSessions, ...ofFiles, ...ofHttp, ...ofTransports } satisfies Values).map(
    // The cast is safe: the keys are those of `Values`.
    (key) => [key.replace(/Ms$/, ""), key as keyof Values] as const
  )
)

/** The value of one option in the services' form; undefined if it is invalid. */
const accepted = (key: keyof Values, value: unknown): unknown => {
  const { kind, minimum, choices, item } = ServerConfig.settings[key]
  if (kind === "flag") return typeof value === "boolean" ? value : undefined
  if (kind === "list") {
    return Array.isArray(value) && value.every((one) => typeof one === "string" && item.is(one)) ? value : undefined
  }
  if (kind === "choice") return choices.some((choice) => choice === value) ? value : undefined
  if (key.endsWith("Ms")) {
    const ms = Option.map(Duration.decodeUnknown(value), Duration.toMillis)
    return Option.getOrUndefined(Option.filter(ms, (ms) => ms >= minimum))
  }
  return typeof value === "number" && Number.isSafeInteger(value) && value >= minimum ? value : undefined
}

const expected = (key: keyof Values): string => {
  const { kind, minimum, choices, item } = ServerConfig.settings[key]
  if (kind === "flag") return "true or false"
  if (kind === "list") return `a list, each item ${item.words}`
  if (kind === "choice") return `one of ${choices.join(", ")}`
  return key.endsWith("Ms") ? `a duration of ${minimum} ms or more` : `a whole number of ${minimum} or more`
}

/** The given limits in the services' form, or the error. */
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
  // The cast is safe: each value was read by its own setting.
  return Either.right(Object.fromEntries(values) as Partial<Values>)
}

/** The limits of one reference: the given ones among them replace the current ones. */
const replaced = <L extends object>(current: L, given: Partial<Values>): L => ({
  ...current,
  ...Object.fromEntries(Object.entries(given).filter(([key]) => key in current))
})

/** A service that reads limits while it is built. */
interface Reader {
  /** The service in the current context, if there is one. */
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
      "maxSessionTtlMs",
      "requestBytesTotal",
      "maxViewersPerProcess",
      "maxScreens",
      "maxProcessesPerSession",
      "stdinQueueBytesPerProcess",
      "processBytesPerSession",
      "processBytesTotal",
      "closedProcessRetentionMs",
      "allowDirectExec",
      "allowPreparedExec",
      "defaultLimits",
      "maxLimits",
      "allowFiles",
      "allowHttp",
      "httpEnvAllow"
    ]
  }
]

/** The services in the current context that were built without these limits, and the names of the limits they read. */
const builtWithout = (context: Context.Context<never>, limits: ReadonlySet<string>) =>
  readers.flatMap(({ find, reads }) => {
    const names = reads.filter((key) => limits.has(key)).map((key) => key.replace(/Ms$/, ""))
    return names.length === 0 ? [] : Option.toArray(Option.map(find(context), (service) => [service, names] as const))
  })

/** All limits. Those not given keep the values around this layer. */
const changed = (given: Partial<Values>): Effect.Effect<Context.Context<never>> =>
  Effect.gen(function* () {
    const processes = yield* ProcessLimits
    const sessions = yield* SessionLimits
    const files = yield* FileLimits
    const http = yield* HttpLimits
    const transports = yield* TransportLimits
    const current: Values = { ...processes, ...sessions, ...files, ...http, ...transports }
    const differing = Object.entries(given).filter(([key, value]) => current[key as keyof Values] !== value)
    const late = builtWithout(yield* Effect.context<never>(), new Set(differing.map(([key]) => key)))
    return Context.empty().pipe(
      Context.add(LateLimits, new Map([...(yield* LateLimits), ...late])),
      Context.add(ProcessLimits, replaced(processes, given)),
      Context.add(SessionLimits, replaced(sessions, given)),
      Context.add(FileLimits, replaced(files, given)),
      Context.add(HttpLimits, replaced(http, given)),
      Context.add(TransportLimits, replaced(transports, given))
    )
  })

/**
 * Sets limits for everything that this layer is provided to; limits not given keep their values. An invalid limit is a
 * defect that names it. So is a transport or service that was built before this layer.
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
 * The same with limits from a `Config`: `Limits.config`, or one with the application's own names.
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
 * All limits, under the names of the command's environment variables, such as `EXEC_SERVER_MAX_SESSIONS` and
 * `EXEC_SERVER_SHUTDOWN_GRACE_PERIOD_MS`. Missing ones have their defaults.
 *
 * @category config
 */
export const config: Config.Config<Options> = Config.map(
  ServerConfig.config,
  // The limits by their option names, with milliseconds as durations.
  (settings): Options => Object.fromEntries(Array.from(keys, ([name, key]) => [name, settings[key]]))
)

/**
 * The limits in the settings of the command.
 *
 * @category context
 */
export const ofSettings = (settings: ServerConfig.ServerConfig): Context.Context<never> =>
  Context.empty().pipe(
    Context.add(ProcessLimits, settings),
    Context.add(SessionLimits, settings),
    Context.add(FileLimits, settings),
    Context.add(HttpLimits, settings),
    Context.add(TransportLimits, settings),
    Context.add(CgroupParent, settings.cgroup)
  )
