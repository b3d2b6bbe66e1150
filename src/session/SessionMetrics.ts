/**
 * The metrics of connections, sessions and requests.
 *
 * Labels come from fixed sets: methods of the protocol, codes, states. No label comes from a client.
 *
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import type { State } from "./SessionState.js"

const unlabelled: ReadonlyArray<MetricLabel.MetricLabel> = []

/** Currently connected peers, on any transport. */
export const connections = Metric.gauge("exec_server_connections", { description: "Open connections." })

/** Peers served since the start. */
export const connected = Metric.counter("exec_server_connections_total", {
  description: "Accepted connections.",
  incremental: true
})

const sessions = Metric.gauge("exec_server_sessions", {
  description: "Sessions, attached and detached."
})

const requestsKey = MetricKey.counter("exec_server_requests_total", {
  description: "Messages that were answered, by method and code.",
  incremental: true
})

const requestSecondsKey = MetricKey.histogram(
  "exec_server_request_duration_seconds",
  MetricBoundaries.fromIterable([0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30]),
  "Time from a request's arrival to its answer, requested waits included; by method and code."
)

const states: { readonly [K in State["_tag"]]: ReadonlyArray<MetricLabel.MetricLabel> | undefined } = {
  Attached: [MetricLabel.make("state", "attached")],
  Detached: [MetricLabel.make("state", "detached")],
  Ended: undefined
}

/** Makes all metrics visible before they are first counted. */
export const register = (): void => {
  for (const metric of [connections, connected]) metric.unsafeModify(0, [])
  for (const state of Object.values(states)) if (state !== undefined) sessions.unsafeModify(0, state)
}

/** Counts a change of a session's state; a new session comes from none. */
export const moved = (before: State["_tag"] | undefined, after: State["_tag"]): void => {
  const from = before === undefined ? undefined : states[before]
  const to = states[after]
  if (from !== undefined) sessions.unsafeModify(-1, from)
  if (to !== undefined) sessions.unsafeModify(1, to)
}

/** How a request ended: a JSON-RPC code, or without an answer. */
export type Outcome = "ok" | "interrupted" | number

/**
 * The metrics of one method and outcome. Their keys include the labels: labels given with an update would be looked up
 * each time.
 */
interface Answers {
  readonly count: Metric.Metric.Counter<number>
  readonly seconds: Metric.Metric.Histogram<number>
}

const answers = new Map<string, Map<Outcome, Answers>>()

const answersOf = (method: string, outcome: Outcome): Answers => {
  let byOutcome = answers.get(method)
  if (byOutcome === undefined) {
    byOutcome = new Map()
    answers.set(method, byOutcome)
  }
  let found = byOutcome.get(outcome)
  if (found === undefined) {
    const labels = [MetricLabel.make("method", method), MetricLabel.make("code", String(outcome))]
    found = {
      count: Metric.fromMetricKey(MetricKey.taggedWithLabels(requestsKey, labels)),
      seconds: Metric.fromMetricKey(MetricKey.taggedWithLabels(requestSecondsKey, labels))
    }
    byOutcome.set(outcome, found)
  }
  return found
}

/** Counts a completed request. `method` is a method of the protocol, or says why it is none. */
export const answered = (method: string, outcome: Outcome, ms: number): void => {
  const { count, seconds } = answersOf(method, outcome)
  count.unsafeUpdate(1, unlabelled)
  seconds.unsafeUpdate(ms / 1000, unlabelled)
}
