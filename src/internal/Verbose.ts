/**
 * Log lines that most servers do not write: they cost nothing unless somebody reads them. Annotating a line changes two
 * references of the fiber and back, also if the line is dropped.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"

/** Logs a message at the level of debugging, with annotations that are made only if it is written. */
export const debug = (message: string, annotations: () => Record<string, unknown>): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) =>
    LogLevel.greaterThan(fiber.getFiberRef(FiberRef.currentMinimumLogLevel), LogLevel.Debug)
      ? Effect.void
      : Effect.annotateLogs(Effect.logDebug(message), annotations())
  )
