/**
 * The page of metrics: what the services have counted, and what is measured of the whole process when it is asked for.
 *
 * @since 0.1.0
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as MetricLabel from "effect/MetricLabel"
import * as ProcessMetrics from "../process/ProcessMetrics.js"
import * as SessionMetrics from "../session/SessionMetrics.js"
import { MetricsPage } from "../transport/MetricsPage.js"
import * as Prometheus from "./Prometheus.js"

/** How often the event loop's delay is measured, in milliseconds: an idle server should hardly wake. */
const delayResolutionMs = 50

const nanosecondsPerSecond = 1e9

const residentBytes = Metric.gauge("process_resident_memory_bytes", { description: "Resident memory, in bytes." })

const delaySeconds = Metric.gauge("exec_server_event_loop_delay_seconds", {
  description: "How late the event loop was, by quantile; since the last time that this was asked for."
})

const quantiles = [0.5, 0.99, 1].map((quantile) => ({
  percentile: quantile * 100,
  labels: [MetricLabel.make("quantile", String(quantile))]
}))

/** The page, for as long as the scope is open. */
const make = Effect.gen(function* () {
  ProcessMetrics.register()
  SessionMetrics.register()
  const delay = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution: delayResolutionMs })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  )
  const measure = () => {
    residentBytes.unsafeUpdate(process.memoryUsage.rss(), [])
    for (const { percentile, labels } of quantiles) {
      // The timer itself takes its resolution; what is above that is the delay.
      const late =
        delay.count === 0 ? 0 : delay.percentile(percentile) / nanosecondsPerSecond - delayResolutionMs / 1000
      delaySeconds.unsafeUpdate(Math.max(0, late), labels)
    }
    delay.reset()
  }
  return {
    contentType: Prometheus.contentType,
    render: Effect.sync(() => {
      measure()
      return Prometheus.format(Metric.unsafeSnapshot())
    })
  }
})

/**
 * Answers `/metrics` with every metric of this process, those of an application around the server included.
 *
 * @category layers
 */
export const layer: Layer.Layer<never> = Layer.scoped(MetricsPage, make)
