/**
 * The server's telemetry, as the settings say: logs, audit log, spans.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as AuditFile from "./AuditFile.js"
import * as Logging from "./Logging.js"
import { ConfigError, type ServerConfig } from "./ServerConfig.js"

const isHttp = (url: string) => URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)

/** The exporter is loaded only if needed. */
const layerSpans = (endpoint: string): Layer.Layer<never, ConfigError> =>
  Layer.unwrapEffect(
    Effect.suspend(() =>
      isHttp(endpoint)
        ? Effect.map(
            Effect.promise(() => import("./Otlp.js")),
            ({ layer }) => layer(endpoint)
          )
        : new ConfigError({ message: "--otlp-endpoint: expected an http:// or https:// URL" })
    )
  )

type Failure = ConfigError | AuditFile.AuditFileError

/**
 * The telemetry that the settings ask for.
 *
 * @category layers
 */
export const layer = (config: ServerConfig): Layer.Layer<never, Failure> => {
  const { auditLog, auditLogMaxBytes, otlpEndpoint } = config
  const audit = auditLog === undefined ? [] : [AuditFile.layer(auditLog, { maxBytes: auditLogMaxBytes })]
  const spans = otlpEndpoint === undefined ? [] : [layerSpans(otlpEndpoint)]
  return [...audit, ...spans].reduce<Layer.Layer<never, Failure>>(
    (others, layer: Layer.Layer<never, Failure>) => Layer.provideMerge(layer, others),
    Logging.layer(config)
  )
}
