/**
 * Reports on the requests of one connection: metrics, log lines and spans. They show which request it was and how it
 * ended, never its contents.
 *
 * @since 0.1.0
 */
import * as Headers from "@effect/platform/Headers"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { clip } from "../protocol/Schemas.js"
import type * as Wire from "../protocol/Wire.js"
import type * as Dispatcher from "./Dispatcher.js"
import { refusalOf } from "./Dispatcher.js"
import type { Handshake } from "./Handshake.js"
import type { Requests } from "./MethodCodecs.js"
import * as SessionMetrics from "./SessionMetrics.js"

/** A request that is being served. */
export interface Request {
  /** The id in the client's notation. */
  readonly id: string
  readonly method: Requests["_tag"]
  /** The arrival time by `performance.now()`, in milliseconds. */
  readonly arrivedAt: number
  /** The client's span, parent of the request's. */
  readonly parent: Tracer.ExternalSpan | undefined
}

/** The reports of one connection. */
export interface RequestReport {
  /** Wraps a request's handler; undefined if neither a tracer nor a logger would notice. */
  readonly around: (request: Request) => Dispatcher.Decorate | undefined
  /** Reports the exit of a request. */
  readonly answered: (request: Request, exit: Dispatcher.RequestExit) => void
  /** Logs the defect that ended a request. */
  readonly died: (request: Request, cause: Cause.Cause<unknown>) => Effect.Effect<void>
}

/**
 * Whether a tracer other than Effect's default is set, whose spans are not exported. Without one, requests make no
 * spans.
 */
const isTracerSet = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  Context.get(fiber.getFiberRef(DefaultServices.currentServices), Tracer.Tracer) !==
  Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** The client's span of a request, from its W3C trace context. Invalid ones are ignored. */
export const parentOf = (trace: Wire.Trace): Tracer.ExternalSpan | undefined => {
  if (typeof trace.traceparent !== "string") return undefined
  return Option.getOrUndefined(HttpTraceContext.w3c(Headers.fromInput({ traceparent: trace.traceparent })))
}

const outcomeOf = (exit: Dispatcher.RequestExit): SessionMetrics.Outcome => {
  if (Exit.isSuccess(exit)) return "ok"
  return Cause.isInterruptedOnly(exit.cause) ? "interrupted" : refusalOf(exit.cause).code
}

/** The client of a connection: its address and its subject. */
export interface Client {
  readonly peer: string
  readonly subject: string
}

/** Reports to the tracer and the loggers of the current fiber. */
export const make = (client: Client, handshake: Handshake): Effect.Effect<RequestReport> =>
  Effect.withFiberRuntime((fiber) => {
    const isTraced = isTracerSet(fiber)
    const isVerbose = LogLevel.lessThanEqual(fiber.getFiberRef(FiberRef.currentMinimumLogLevel), LogLevel.Trace)

    const idsOf = ({ id }: Request) => ({
      ...client,
      requestId: clip(id),
      ...(handshake.initialized === undefined ? {} : { sessionId: handshake.initialized.session.id })
    })
    const told = (request: Request) => Effect.annotateLogs({ ...idsOf(request), method: request.method })
    const elapsed = ({ arrivedAt }: Request) => performance.now() - arrivedAt

    const report = (request: Request, exit: Dispatcher.RequestExit): Effect.Effect<void> => {
      const code = outcomeOf(exit)
      const log = Effect.annotateLogs(Effect.logTrace("request"), { code, ms: Math.round(elapsed(request)) })
      return Effect.zipRight(
        Effect.annotateCurrentSpan({ ...idsOf(request), code }),
        isVerbose ? told(request)(log) : Effect.void
      )
    }

    const inSpanOfClient = <A, E>({ parent }: Request, effect: Effect.Effect<A, E>) =>
      parent === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, parent)

    /** The request's handler in its span. Without a tracer, its log lines carry the client's span. */
    const traced = (request: Request): Dispatcher.Decorate => {
      const { parent, method } = request
      return (handler) => {
        const reported = Effect.onExit(handler, (exit) => report(request, exit))
        return isTraced
          ? Effect.withSpan(reported, `exec-server.${method}`, { parent, captureStackTrace: false })
          : inSpanOfClient(request, reported)
      }
    }

    const made: RequestReport = {
      around: (request) => (isTraced || isVerbose || request.parent !== undefined ? traced(request) : undefined),
      answered: (request, exit) => SessionMetrics.answered(request.method, outcomeOf(exit), elapsed(request)),
      died: (request, cause) =>
        inSpanOfClient(request, told(request)(Effect.logError("a request died of a defect", cause)))
    }
    return Effect.succeed(made)
  })
