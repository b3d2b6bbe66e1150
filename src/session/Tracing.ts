/**
 * W3C trace context of requests.
 *
 * @since 0.1.0
 */
import * as Headers from "@effect/platform/Headers"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type * as Wire from "../protocol/Wire.js"

/** Whether there is a tracer other than Effect's own, whose spans nobody sees: without one, requests make none. */
export const isEnabled: Effect.Effect<boolean> = Effect.map(
  Effect.tracer,
  (tracer) => tracer !== Context.get(DefaultServices.liveServices, Tracer.Tracer)
)

/** The span of the client that a request belongs to. What is no trace context is ignored. */
export const parentOf = (trace: Wire.Trace | undefined): Tracer.ExternalSpan | undefined => {
  if (typeof trace?.traceparent !== "string") return undefined
  return Option.getOrUndefined(HttpTraceContext.w3c(Headers.fromInput({ traceparent: trace.traceparent })))
}
