/**
 * Formats metrics in the text format of Prometheus, version 0.0.4.
 *
 * @since 0.1.0
 */
import * as MetricKeyType from "effect/MetricKeyType"
import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"

/**
 * The content type of the text.
 *
 * @category utilities
 */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

type Labels = ReadonlyArray<readonly [key: string, value: string]>

/** All samples of one name. */
interface Family {
  readonly type: "counter" | "gauge" | "histogram" | "summary"
  readonly help: string
  readonly samples: Array<string>
}

const nameOf = (text: string) => text.replace(/[^a-zA-Z0-9_:]/g, "_").replace(/^(?=\d)/, "_")

const escapeHelp = (text: string) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")
const escapeValue = (text: string) => escapeHelp(text).replaceAll('"', '\\"')

const number = (value: number | bigint): string => {
  if (value === Number.POSITIVE_INFINITY) return "+Inf"
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value)
}

const sample = (name: string, labels: Labels, value: number | bigint): string => {
  const list = labels.map(([key, value]) => `${nameOf(key)}="${escapeValue(value)}"`)
  return `${name}${list.length === 0 ? "" : `{${list.join(",")}}`} ${number(value)}`
}

/** The type of a metric, and its samples. */
const read = (
  name: string,
  labels: Labels,
  isIncremental: boolean,
  state: unknown
): Pick<Family, "type" | "samples"> | undefined => {
  // A counter that may go down is a gauge for Prometheus.
  if (MetricState.isCounterState(state)) {
    return { type: isIncremental ? "counter" : "gauge", samples: [sample(name, labels, state.count)] }
  }
  if (MetricState.isGaugeState(state)) return { type: "gauge", samples: [sample(name, labels, state.value)] }
  if (MetricState.isFrequencyState(state)) {
    const samples = Array.from(state.occurrences, ([key, count]) => sample(name, [...labels, ["key", key]], count))
    return { type: "counter", samples }
  }
  if (MetricState.isHistogramState(state)) {
    const buckets = state.buckets
      .filter(([boundary]) => boundary !== Number.POSITIVE_INFINITY)
      .map(([boundary, count]) => sample(`${name}_bucket`, [...labels, ["le", number(boundary)]], count))
    const all = sample(`${name}_bucket`, [...labels, ["le", "+Inf"]], state.count)
    return { type: "histogram", samples: [...buckets, all, ...totals(name, labels, state)] }
  }
  if (MetricState.isSummaryState(state)) {
    const quantiles = state.quantiles.flatMap(([quantile, value]) =>
      Option.isSome(value) ? [sample(name, [...labels, ["quantile", number(quantile)]], value.value)] : []
    )
    return { type: "summary", samples: [...quantiles, ...totals(name, labels, state)] }
  }
  return undefined
}

const totals = (name: string, labels: Labels, { sum, count }: { readonly sum: number; readonly count: number }) => [
  sample(`${name}_sum`, labels, sum),
  sample(`${name}_count`, labels, count)
]

/**
 * Formats a snapshot of metrics, grouped by name.
 *
 * @category utilities
 */
export const format = (pairs: ReadonlyArray<MetricPair.MetricPair.Untyped>): string => {
  const families = new Map<string, Family>()
  for (const { metricKey, metricState } of pairs) {
    const name = nameOf(metricKey.name)
    const labels: Labels = metricKey.tags.map(({ key, value }) => [key, value])
    const { keyType } = metricKey
    const found = read(name, labels, MetricKeyType.isCounterKey(keyType) && keyType.incremental, metricState)
    if (found === undefined) continue
    const family = families.get(name)
    if (family === undefined) {
      const help = Option.getOrElse(metricKey.description, () => "")
      families.set(name, { ...found, help })
    } else if (family.type === found.type) family.samples.push(...found.samples)
  }
  return Array.from(families)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { type, help, samples }]) =>
      [...(help === "" ? [] : [`# HELP ${name} ${escapeHelp(help)}`]), `# TYPE ${name} ${type}`, ...samples, ""].join(
        "\n"
      )
    )
    .join("")
}
