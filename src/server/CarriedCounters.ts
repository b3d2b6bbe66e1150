/**
 * The counters of a server, carried over an upgrade: they go on counting. Gauges are measured anew, and histograms begin
 * anew, as after a restart.
 *
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import * as MetricKeyType from "effect/MetricKeyType"
import * as MetricLabel from "effect/MetricLabel"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** The name of their state. */
export const part = "counters"

/** Counters with labels. The schema is made on use: an ordinary start has none. */
export const schema = () =>
  Schema.Array(
    Schema.Struct({
      name: Schema.String,
      description: Schema.optional(Schema.String),
      labels: Schema.Array(Schema.Tuple(Schema.String, Schema.String)),
      count: Schema.NonNegative
    })
  )

/** Only counters that never fall: what a name with this prefix counts is this server's. */
const prefix = "exec_server_"

/** The counters that are not 0. */
export const freeze = (): Schema.Schema.Encoded<ReturnType<typeof schema>> =>
  Array.from(Metric.unsafeSnapshot()).flatMap(({ metricKey: { name, keyType, description, tags }, metricState }) => {
    const isOurs = name.startsWith(prefix) && MetricKeyType.isCounterKey(keyType) && keyType.incremental
    if (!isOurs || !MetricState.isCounterState(metricState)) return []
    const count = Number(metricState.count)
    if (count === 0) return []
    return [
      {
        name,
        ...Option.match(description, { onNone: () => ({}), onSome: (description) => ({ description }) }),
        labels: tags.map(({ key, value }) => [key, value] as const),
        count
      }
    ]
  })

/** Adds carried counters to those of this process. */
export const adopt = (state: unknown): void => {
  for (const { name, description, labels, count } of Schema.decodeUnknownSync(schema())(state)) {
    const key = MetricKey.counter(name, { incremental: true, ...(description === undefined ? {} : { description }) })
    const tagged = MetricKey.taggedWithLabels(
      key,
      labels.map(([name, value]) => MetricLabel.make(name, value))
    )
    Metric.fromMetricKey(tagged).unsafeUpdate(count, [])
  }
}
