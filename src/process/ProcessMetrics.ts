/**
 * The metrics of processes, and checks of their invariants.
 *
 * Metrics with constant labels are updated in place: an update on the output path costs an addition.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricLabel from "effect/MetricLabel"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { EventSource, ProcessEvents } from "./ProcessEvents.js"
import type { ExitReport } from "./ProcessState.js"

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

/** Counts and checks events, and passes them on. A class: each session has one. */
export class MeasuredEvents implements ProcessEvents {
  private readonly tracks = new WeakMap<EventSource, Track>()

  constructor(private readonly events: ProcessEvents) {}

  onStarted(process: EventSource, pid: number): void {
    started.unsafeUpdate(1, [])
    running.unsafeModify(1, [])
    this.events.onStarted(process, pid)
  }

  onFailed(processId: ProcessId, message: string): void {
    failed.unsafeUpdate(1, [])
    this.events.onFailed(processId, message)
  }

  onOutput(process: EventSource, seq: number, stream: OutputStream, bytes: Buffer): void {
    this.numbered(process, seq)
    outputBytes.unsafeUpdate(bytes.length, streamLabels[stream])
    this.events.onOutput(process, seq, stream, bytes)
  }

  onRestarted(process: EventSource, seq: number, attempt: number, pid: number): void {
    this.numbered(process, seq)
    restarted.unsafeUpdate(1, [])
    this.events.onRestarted(process, seq, attempt, pid)
  }

  onExited(process: EventSource, seq: number, exit: ExitReport, timedOut: boolean): void {
    const track = this.numbered(process, seq)
    if (track.exited) violations.unsafeUpdate(1, violationLabels.second_exit)
    else running.unsafeModify(-1, [])
    track.exited = true
    this.events.onExited(process, seq, exit, timedOut)
  }

  onClosed(process: EventSource, seq: number): void {
    this.numbered(process, seq).closed = true
    this.events.onClosed(process, seq)
  }

  onResized(process: EventSource, size: TerminalSize): void {
    this.events.onResized?.(process, size)
  }

  /** Goes on with a process of the version of the server before, whose last event was `lastSeq`. */
  adopted(process: EventSource, lastSeq: number, exited: boolean, closed: boolean): void {
    this.tracks.set(process, { lastSeq, exited, closed })
    if (!exited) running.unsafeModify(1, [])
  }

  private numbered(process: EventSource, seq: number): Track {
    let track = this.tracks.get(process)
    if (track === undefined) {
      track = { lastSeq: 0, exited: false, closed: false }
      this.tracks.set(process, track)
    }
    if (track.closed) violations.unsafeUpdate(1, violationLabels.event_after_closed)
    else if (seq !== track.lastSeq + 1) violations.unsafeUpdate(1, violationLabels.seq_gap)
    track.lastSeq = seq
    return track
  }
}
