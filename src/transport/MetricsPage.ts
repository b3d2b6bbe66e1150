/**
 * The page that `/metrics` returns, on transports that serve HTTP.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * A page of metrics.
 *
 * @category models
 */
export interface Page {
  readonly contentType: string
  readonly render: Effect.Effect<string>
}

/**
 * The metrics page. By default there is none, and `/metrics` is not found.
 *
 * @category tags
 */
export class MetricsPage extends Context.Reference<MetricsPage>()("exec-server/MetricsPage", {
  defaultValue: (): Page | undefined => undefined
}) {}
