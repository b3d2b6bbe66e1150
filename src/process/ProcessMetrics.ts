/**
 * The metrics of processes, and checks of their invariants.
 *
 * Metrics with constant labels are updated in place: an update on the output path costs an addition.
 *
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricLabel from "effect/MetricLabel"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { EventSource, ProcessEvents } from "./ProcessEvents.js"

/** Started processes. Restarts are counted separately. */
export const started = Metric.counter("exec_server_processes_started_total", {
  description: "Processes that were started.",
  incremental: true
})

/** Starts that the operating system refused. */
export const failed = Metric.counter("exec_server_processes_failed_total", {
  description: "Processes that could not be started.",
  incremental: true
})

/** Restarts under a restart policy. */
export const restarted = Metric.counter("exec_server_process_restarts_total", {
  description: "Restarts of processes by their restart policy.",
  incremental: true
})

/** Processes that have started and not finally exited. */
export const running = Metric.gauge("exec_server_processes_running", {
  description: "Processes that have started and not exited."
})

/** Bytes that processes wrote, by stream. */
export const outputBytes = Metric.counter("exec_server_process_output_bytes_total", {
  description: "Bytes read from processes.",
  incremental: true
})

/** Bytes accepted as input of processes. */
export const inputBytes = Metric.counter("exec_server_process_input_bytes_total", {
  description: "Bytes accepted as input of processes.",
  incremental: true
})

/** Dropped bytes of output, of processes that are still retained. */
export const droppedBytes = Metric.counter("exec_server_output_dropped_bytes_total", {
  description: "Bytes of output that retention has dropped.",
  incremental: true
})

/** The duration of starting a child, in seconds. */
export const spawnSeconds = Metric.histogram(
  "exec_server_spawn_duration_seconds",
  MetricBoundaries.fromIterable([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]),
  "Time that starting a child took."
)

/** Violated invariants, by kind. Must stay 0. */
export const violations = Metric.counter("exec_server_invariant_violations_total", {
  description: "Events of processes that broke a promise; always 0 unless the server has a bug.",
  incremental: true
})

/** The invariants of one process's events. */
export type Violation = "event_after_closed" | "seq_gap" | "second_exit"

const labels = (key: string, value: string): ReadonlyArray<MetricLabel.MetricLabel> => [MetricLabel.make(key, value)]

const streamLabels: { readonly [K in OutputStream]: ReadonlyArray<MetricLabel.MetricLabel> } = {
  stdout: labels("stream", "stdout"),
  stderr: labels("stream", "stderr"),
  pty: labels("stream", "pty")
}

const violationLabels: { readonly [K in Violation]: ReadonlyArray<MetricLabel.MetricLabel> } = {
  event_after_closed: labels("kind", "event_after_closed"),
  seq_gap: labels("kind", "seq_gap"),
  second_exit: labels("kind", "second_exit")
}

/** Makes all metrics visible before they are first counted. */
export const register = (): void => {
  for (const metric of [started, failed, restarted, running, inputBytes, droppedBytes]) metric.unsafeModify(0, [])
  for (const stream of Object.values(streamLabels)) outputBytes.unsafeModify(0, stream)
  for (const kind of Object.values(violationLabels)) violations.unsafeModify(0, kind)
}

interface Track {
  lastSeq: number
  exited: boolean
  closed: boolean
}

/** Counts and checks events, and passes them on. */
export const observe = (events: ProcessEvents): ProcessEvents => {
  const tracks = new WeakMap<EventSource, Track>()

  const numbered = (process: EventSource, seq: number): Track => {
    let track = tracks.get(process)
    if (track === undefined) {
      track = { lastSeq: 0, exited: false, closed: false }
      tracks.set(process, track)
    }
    if (track.closed) violations.unsafeUpdate(1, violationLabels.event_after_closed)
    else if (seq !== track.lastSeq + 1) violations.unsafeUpdate(1, violationLabels.seq_gap)
    track.lastSeq = seq
    return track
  }

  return {
    onStarted: (process, pid) => {
      started.unsafeUpdate(1, [])
      running.unsafeModify(1, [])
      events.onStarted(process, pid)
    },
    onFailed: (processId, message) => {
      failed.unsafeUpdate(1, [])
      events.onFailed(processId, message)
    },
    onOutput: (process, seq, stream, bytes) => {
      numbered(process, seq)
      outputBytes.unsafeUpdate(bytes.length, streamLabels[stream])
      events.onOutput(process, seq, stream, bytes)
    },
    onRestarted: (process, seq, attempt, pid) => {
      numbered(process, seq)
      restarted.unsafeUpdate(1, [])
      events.onRestarted(process, seq, attempt, pid)
    },
    onExited: (process, seq, exit, timedOut) => {
      const track = numbered(process, seq)
      if (track.exited) violations.unsafeUpdate(1, violationLabels.second_exit)
      else running.unsafeModify(-1, [])
      track.exited = true
      events.onExited(process, seq, exit, timedOut)
    },
    onClosed: (process, seq) => {
      numbered(process, seq).closed = true
      events.onClosed(process, seq)
    },
    onResized: (process, size) => events.onResized?.(process, size)
  }
}
