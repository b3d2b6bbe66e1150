import { assert, describe, it } from "@effect/vitest"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as Prometheus from "../../src/server/Prometheus.js"

/** The lines about one metric, of all there are. */
const lines = (name: string) =>
  Prometheus.format(Metric.unsafeSnapshot())
    .split("\n")
    .filter((line) => line.includes(name))

describe("format", () => {
  it("a counter, with its description and its labels escaped", () => {
    const metric = Metric.counter("a.counter", { description: "two\nlines", incremental: true })
    Metric.tagged(metric, "label", 'quote " back \\ line\nend').unsafeUpdate(3, [])
    assert.deepStrictEqual(lines("a_counter"), [
      "# HELP a_counter two\\nlines",
      "# TYPE a_counter counter",
      'a_counter{label="quote \\" back \\\\ line\\nend"} 3'
    ])
  })

  it("what may go down is a gauge", () => {
    Metric.gauge("a_gauge").unsafeUpdate(-1.5, [])
    Metric.counter("a_balance").unsafeUpdate(-2, [])
    assert.deepStrictEqual(lines("a_gauge"), ["# TYPE a_gauge gauge", "a_gauge -1.5"])
    assert.deepStrictEqual(lines("a_balance"), ["# TYPE a_balance gauge", "a_balance -2"])
  })

  it("a histogram's buckets hold those below them", () => {
    const metric = Metric.histogram("a_histogram", MetricBoundaries.fromIterable([1, 2]))
    for (const value of [0.5, 1, 1.5, 9]) metric.unsafeUpdate(value, [])
    assert.deepStrictEqual(lines("a_histogram"), [
      "# TYPE a_histogram histogram",
      'a_histogram_bucket{le="1"} 2',
      'a_histogram_bucket{le="2"} 3',
      'a_histogram_bucket{le="+Inf"} 4',
      "a_histogram_sum 12",
      "a_histogram_count 4"
    ])
  })

  it("a frequency counts words, a summary has quantiles", () => {
    Metric.frequency("a_frequency").unsafeUpdate("word", [])
    const summary = Metric.summary({ name: "a_summary", maxAge: "1 day", maxSize: 10, error: 0, quantiles: [0.5] })
    summary.unsafeUpdate(7, [])
    assert.deepStrictEqual(lines("a_frequency"), ["# TYPE a_frequency counter", 'a_frequency{key="word"} 1'])
    assert.deepStrictEqual(lines("a_summary"), [
      "# TYPE a_summary summary",
      'a_summary{quantile="0.5"} 7',
      "a_summary_sum 7",
      "a_summary_count 1"
    ])
  })
})
