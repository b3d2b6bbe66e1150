/**
 * The read-only part of a process: its identity, its state, its retained output, and waits for its next state.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type * as Effect from "effect/Effect"
import * as Immediate from "../internal/Immediate.js"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import type { ProcessInfo, ReadResult, SnapshotResult, WaitResult } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { Child, Root } from "../spawn/Child.js"
import type { ExitUsage } from "../spawn/ExitUsage.js"
import type { RetainedOutput } from "./OutputBuffer.js"
import * as ProcessReport from "./ProcessReport.js"
import { type ExitReport, reportOf, State, stillRunning } from "./ProcessState.js"
import { ResizeMarks } from "./ResizeMarks.js"
import { Waiters } from "./Waiters.js"

/** The properties of a process that are known before it runs. */
export interface Description {
  readonly processId: ProcessId
  readonly argv: ReadonlyArray<string>
  readonly cwd: string
  readonly tty: boolean
  /** The initial size of the terminal. */
  readonly size?: TerminalSize | undefined
  readonly hasStdin: boolean
  /** Who may change the size of the terminal besides `process/resize`: nobody, or the viewer that drives it. */
  readonly sizePolicy?: "owner" | "driver" | undefined
  readonly startedAtMs: number
}

/** The part of a process that reads its state. `ManagedProcess` is the part that changes it, and wakes the waiters. */
export abstract class ProcessView {
  protected state: State = State.Starting()
  /** The number of the next event. */
  protected nextSeq = 1
  protected denied = false
  protected timedOut = false
  protected used: ExitUsage | undefined
  protected outOfMemory = false
  protected failure: string | null = null
  /** The number of restarts. */
  protected restarts = 0
  /** The total output in bytes, and the time of the last output in milliseconds since 1970. */
  protected outputBytes = 0
  protected lastOutputAtMs: number | null = null
  /** The number of the exit; 0 before it. */
  protected exitSeq = 0
  /** The size of its terminal; undefined on pipes. */
  protected size: TerminalSize | undefined
  /** The sizes that its terminal has had; undefined on pipes. */
  marks: ResizeMarks | undefined
  protected readonly waiters = new Waiters()

  /** The processId as JSON text, for messages that are assembled without a JSON encoder. */
  readonly idJson: string
  private idBytes: Buffer | undefined | null = null

  constructor(
    readonly description: Description,
    protected readonly output: RetainedOutput
  ) {
    this.idJson = JSON.stringify(description.processId)
    this.size = description.size
    this.marks = description.size === undefined ? undefined : new ResizeMarks(description.size)
  }

  get processId(): ProcessId {
    return this.description.processId
  }

  /** The processId encoded for binary frames; undefined if too long. */
  get frameId(): Buffer | undefined {
    if (this.idBytes === null) this.idBytes = BinaryFrame.encodeId(this.processId)
    return this.idBytes
  }

  get tag(): State["_tag"] {
    return this.state._tag
  }

  /** Whether it has exited, probably because of its restrictions. */
  get sandboxDenied(): boolean {
    return this.denied
  }

  /** What it has used until its end; undefined before, and if that is not known. */
  get exitUsage(): ExitUsage | undefined {
    return this.exited() ? this.used : undefined
  }

  /** Whether the kernel has killed a process of its tree for lack of memory. */
  get oomKilled(): boolean {
    return this.outOfMemory
  }

  /** The retained output, to read from. */
  get retained(): Pick<RetainedOutput, "select" | "gap" | "bytesAfter" | "hasAfter"> {
    return this.output
  }

  /** The number of the last event; 0 before the first. */
  get lastSeq(): number {
    return this.nextSeq - 1
  }

  /** The number of its exit; 0 before it. */
  get exitedAt(): number {
    return this.exitSeq
  }

  /** The total output so far, in bytes. */
  get totalBytes(): number {
    return this.outputBytes
  }

  /** The current size of its terminal; undefined on pipes. */
  get currentSize(): TerminalSize | undefined {
    return this.size
  }

  /** Whether it has exited and closed, and its exit status. */
  status(): Omit<WaitResult, "usage" | "timedOut" | "oomKilled"> {
    return { exited: this.exited(), ...this.exit(), closed: this.state._tag === "Closed" }
  }

  /** Completes when the process has left this state. */
  untilLeft(tag: "Starting" | "Running" | "Restarting"): Effect.Effect<void> {
    return this.waiters.until(() => this.state._tag !== tag, Number.POSITIVE_INFINITY)
  }

  /** Completes when all output of a child that will be replaced was read, or after `waitMs`. */
  untilDrained(waitMs: number): Effect.Effect<void> {
    return this.waiters.until(() => this.state._tag !== "Restarting" || this.state.outputEnded, waitMs)
  }

  /** Retained output after `afterSeq`. Waits up to `waitMs` for output, the exit or the close. */
  read(afterSeq: number, maxBytes: number, waitMs: number): Effect.Effect<ReadResult> {
    const ready = () =>
      this.output.hasAfter(afterSeq) ||
      this.state._tag === "Closed" ||
      (this.state._tag === "Exited" && afterSeq < this.nextSeq - 1)
    return Immediate.map(this.waiters.until(ready, waitMs), () =>
      ProcessReport.read(this.output, this.standing(), afterSeq, maxBytes)
    )
  }

  /** The state of the process after it has exited, or closed, or after `waitMs`. */
  wait(until: "exited" | "closed", waitMs: number): Effect.Effect<WaitResult> {
    const ready = () => this.state._tag === "Closed" || (until === "exited" && this.state._tag === "Exited")
    return Immediate.map(this.waiters.until(ready, waitMs), () => ({
      ...this.status(),
      ...(this.exitUsage === undefined ? {} : { usage: this.exitUsage }),
      ...ProcessReport.causes(this.standing())
    }))
  }

  /** The roots of its tree in the process table; undefined if it has not started, or is over with all of its tree. */
  get root(): Root | undefined {
    return this.exited() && !this.hasRemains() ? undefined : this.child()?.root
  }

  /** Whether members of the tree may have survived the leader. Cheap; true when in doubt. */
  hasRemains(): boolean {
    return this.child()?.hasRemains() ?? false
  }

  /** The same with certainty, once the leader has exited. Reads the process table. */
  findRemains(): boolean {
    return this.child()?.findRemains() ?? false
  }

  /** Completes when the process has closed or could not be started, or after `waitMs`. */
  untilClosed(waitMs: number): Effect.Effect<void> {
    return this.waiters.until(() => this.state._tag === "Closed" || this.state._tag === "Failed", waitMs)
  }

  /** All retained output, and the state of the process. */
  snapshot(): SnapshotResult {
    return ProcessReport.snapshot(this.output, this.standing())
  }

  /** The process as an entry of a list. */
  info(): ProcessInfo {
    const { processId, argv, cwd, tty, startedAtMs } = this.description
    return {
      processId,
      pid: this.state._tag === "Restarting" ? null : (this.child()?.pid ?? null),
      argv,
      tty,
      running: !this.exited(),
      ...this.exit(),
      startedAtMs,
      cwd,
      ...(this.size === undefined ? {} : { size: this.size }),
      restarts: this.restarts,
      outputBytes: this.outputBytes,
      lastOutputAtMs: this.lastOutputAtMs
    }
  }

  protected child(): Child | undefined {
    return this.state._tag === "Starting" || this.state._tag === "Failed" ? undefined : this.state.child
  }

  protected exited(): boolean {
    return this.state._tag === "Exited" || this.state._tag === "Closed"
  }

  protected exit(): ExitReport {
    return this.state._tag === "Exited" || this.state._tag === "Closed" ? reportOf(this.state.status) : stillRunning
  }

  private standing(): ProcessReport.Standing {
    return {
      exited: this.exited(),
      exit: this.exit(),
      closed: this.state._tag === "Closed",
      nextSeq: this.nextSeq,
      failure: this.failure,
      sandboxDenied: this.denied,
      timedOut: this.timedOut,
      oomKilled: this.outOfMemory
    }
  }
}
