/**
 * Exports spans to an OpenTelemetry collector, over OTLP/HTTP with JSON.
 *
 * @since 0.1.0
 */
import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Layer from "effect/Layer"
import { version } from "../internal/Package.js"

/** How long the export of the last spans may take when the server ends. */
const shutdownTimeout = "1 second"

/**
 * Exports spans to a collector in batches, every few seconds and at the end.
 *
 * @category layers
 */
export const layer = (endpoint: string): Layer.Layer<never> =>
  OtlpTracer.layer({
    url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
    resource: { serviceName: "exec-server", serviceVersion: version },
    exportInterval: "2 seconds",
    shutdownTimeout
  }).pipe(Layer.provide([FetchHttpClient.layer, OtlpSerialization.layerJson]))
