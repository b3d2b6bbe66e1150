import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import * as ProcessMetrics from "../../src/process/ProcessMetrics.js"
import { bench, bytes, recorder, supervisorLayer } from "../support/fake.js"

const exit = { exitCode: 0, signal: null }

/** How often each promise was broken so far. */
const broken = () => {
  const counts: Record<string, number> = { event_after_closed: 0, seq_gap: 0, second_exit: 0 }
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    const kind = metricKey.tags[0]?.value
    if (metricKey.name !== "exec_server_invariant_violations_total" || kind === undefined) continue
    counts[kind] = (metricState as unknown as { readonly count: number }).count
  }
  return counts
}

/** What these calls break. */
const breaks = (f: (events: ProcessMetrics.MeasuredEvents, process: ManagedProcess) => void) =>
  Effect.gen(function* () {
    const { start } = yield* bench
    const { process } = yield* start("p")
    const before = broken()
    f(new ProcessMetrics.MeasuredEvents(recorder().events), process)
    const after = broken()
    return Object.entries(after).flatMap(([kind, count]) => Array(count - (before[kind] ?? 0)).fill(kind))
  }).pipe(Effect.provide(supervisorLayer()), Effect.scoped)

describe("promises about the events of a process", () => {
  it.live("events in order break none", () =>
    Effect.gen(function* () {
      const found = yield* breaks((events, process) => {
        events.onStarted(process, 1)
        events.onOutput(process, 1, "stdout", bytes("x"))
        events.onRestarted(process, 2, 1, 2)
        events.onOutput(process, 3, "stderr", bytes("x"))
        events.onExited(process, 4, exit, false)
        events.onOutput(process, 5, "stdout", bytes("late"))
        events.onClosed(process, 6)
      })
      assert.deepStrictEqual(found, [])
    })
  )

  it.live("each that is broken is counted", () =>
    Effect.gen(function* () {
      const gap = yield* breaks((events, process) => {
        events.onOutput(process, 1, "stdout", bytes("x"))
        events.onOutput(process, 3, "stdout", bytes("x"))
        events.onOutput(process, 3, "stdout", bytes("x"))
      })
      assert.deepStrictEqual(gap, ["seq_gap", "seq_gap"])
      const second = yield* breaks((events, process) => {
        events.onStarted(process, 1)
        events.onExited(process, 1, exit, false)
        events.onExited(process, 2, exit, false)
      })
      assert.deepStrictEqual(second, ["second_exit"])
      const late = yield* breaks((events, process) => {
        events.onClosed(process, 1)
        events.onOutput(process, 2, "stdout", bytes("x"))
        events.onClosed(process, 3)
      })
      assert.deepStrictEqual(late, ["event_after_closed", "event_after_closed"])
    })
  )
})

/** A metric's state, without labels. */
const stateOf = (name: string) =>
  Metric.unsafeSnapshot().find(({ metricKey }) => metricKey.name === name)?.metricState as unknown as {
    readonly count: number
    readonly sum: number
  }

describe("what is counted", () => {
  it.live("of a start is how often it happened, and its seconds", () =>
    Effect.gen(function* () {
      const name = "exec_server_spawn_duration_seconds"
      const { start } = yield* bench
      yield* start("first")
      const before = stateOf(name)
      yield* start("second")
      const after = stateOf(name)
      assert.strictEqual(after.count - before.count, 1)
      const seconds = after.sum - before.sum
      assert.isTrue(seconds >= 0 && seconds < 1, String(seconds))
    }).pipe(Effect.provide(supervisorLayer()), Effect.scoped)
  )
})
