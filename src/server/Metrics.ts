/**
 * The metrics page: the counters of the services, and measurements of the process, taken on request.
 *
 * @since 0.1.0
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as MetricLabel from "effect/MetricLabel"
import { Handover } from "../internal/Handover.js"
import * as ProcessMetrics from "../process/ProcessMetrics.js"
import * as SessionMetrics from "../session/SessionMetrics.js"
import { MetricsPage } from "../transport/MetricsPage.js"
import * as CarriedCounters from "./CarriedCounters.js"
import * as Prometheus from "./Prometheus.js"

/** The resolution of the event loop's delay, in milliseconds: an idle server should rarely wake up. */
const delayResolutionMs = 50

const nanosecondsPerSecond = 1e9

const residentBytes = Metric.gauge("process_resident_memory_bytes", { description: "Resident memory, in bytes." })

const delaySeconds = Metric.gauge("exec_server_event_loop_delay_seconds", {
  description: "Delay of the event loop since the last scrape, by quantile."
})

const quantiles = [0.5, 0.99, 1].map((quantile) => ({
  percentile: quantile * 100,
  labels: [MetricLabel.make("quantile", String(quantile))]
}))

/** The page, while the scope is open. `register` makes metrics appear that nothing has changed yet. */
const make = (register: () => void) =>
  Effect.gen(function* () {
    register()
    const handover = yield* Handover
    const before = handover.adopted(CarriedCounters.part)
    if (before !== undefined) CarriedCounters.adopt(before.state)
    handover.contribute({ name: CarriedCounters.part, freeze: CarriedCounters.freeze })
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
        // The timer itself adds its resolution; the rest is delay.
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
 * Serves all metrics of this process on `/metrics`, including those of an embedding application.
 *
 * @category layers
 */
export const layer: Layer.Layer<never> = Layer.scoped(
  MetricsPage,
  make(() => {
    ProcessMetrics.register()
    SessionMetrics.register()
  })
)

/**
 * The same for a program that is no server, with its own metrics.
 *
 * @category layers
 */
export const layerOf = (register: () => void): Layer.Layer<never> => Layer.scoped(MetricsPage, make(register))
