/**
 * The server's logs: on stderr, as text or as JSON.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as Journal from "../internal/Journal.js"
import * as PlainText from "../internal/PlainText.js"
import type { ServerConfig } from "./ServerConfig.js"

const messageOf = (message: unknown): string => {
  const parts = Array.isArray(message) ? message : [message]
  return parts.map((part) => (typeof part === "string" ? part : JSON.stringify(part))).join(" ")
}

/**
 * Formats an entry as a JSON object on one line: time, level, message, ids, and its trace and span, if any.
 *
 * @category utilities
 */
export const json: Logger.Logger<unknown, string> = Logger.make(
  ({ annotations, cause, context, date, logLevel, message }) => {
    const services = FiberRefs.getOrDefault(context, FiberRef.currentContext)
    const span = Option.getOrUndefined(Context.getOption(services, Tracer.ParentSpan))
    return PlainText.json({
      ...Object.fromEntries(HashMap.toEntries(annotations)),
      time: date.toISOString(),
      level: logLevel.label,
      message: messageOf(message),
      ...(span === undefined ? {} : { traceId: span.traceId, spanId: span.spanId }),
      ...(Cause.isEmpty(cause) ? {} : { cause: Cause.pretty(cause) })
    })
  }
)

/**
 * Formats an entry as one line of `name=value` pairs.
 *
 * @category utilities
 */
export const text: Logger.Logger<unknown, string> = Logger.map(Logger.logfmtLogger, PlainText.escaped)

/** The priority of an entry in the journal. */
const priorityOf = ({ ordinal }: LogLevel.LogLevel): Journal.Priority => {
  if (ordinal >= LogLevel.Fatal.ordinal) return 2
  if (ordinal >= LogLevel.Error.ordinal) return 3
  if (ordinal >= LogLevel.Warning.ordinal) return 4
  return ordinal >= LogLevel.Info.ordinal ? 6 : 7
}

/**
 * For stderr: where that is the journal, each entry begins with its priority, and text has no time and level, which the
 * journal shows itself.
 *
 * @category utilities
 */
export const forStderr = (logger: Logger.Logger<unknown, string>): Logger.Logger<unknown, string> =>
  Journal.isStderr()
    ? Logger.make(
        (entry) =>
          Journal.prefix(priorityOf(entry.logLevel)) + logger.log(entry).replace(/^timestamp=\S+ level=\S+ /, "")
      )
    : logger

const loggers: { readonly [K in ServerConfig["logFormat"]]: Logger.Logger<unknown, string> } = {
  text,
  json
}

/**
 * The log level of a word.
 *
 * @category utilities
 */
export const levelOf = (word: ServerConfig["logLevel"]): LogLevel.LogLevel =>
  LogLevel.allLevels.find(({ _tag }) => _tag.toLowerCase() === word) ?? LogLevel.Warning

/**
 * Logs to stderr in this format, from this level on.
 *
 * @category layers
 */
export const layer = ({ logFormat, logLevel }: Pick<ServerConfig, "logFormat" | "logLevel">): Layer.Layer<never> =>
  Layer.scopedDiscard(
    // Replaces all loggers: each entry goes to stderr once, and to its span.
    Effect.locallyScoped(
      FiberRef.currentLoggers,
      HashSet.make(Logger.withConsoleError(forStderr(loggers[logFormat])), Logger.tracerLogger)
    ).pipe(Effect.zipRight(Effect.locallyScoped(FiberRef.currentMinimumLogLevel, levelOf(logLevel))))
  )
