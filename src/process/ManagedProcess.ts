/**
 * The actor: one process, from the request to start it until it is forgotten.
 *
 * Its state moves only forward: Starting, Running, Exited, Closed. Under a restart policy it may alternate between
 * Running and Restarting. Its events are numbered in one place. This module changes a process; its base class
 * `ProcessView` reads it.
 *
 * Every process has its own scope within its session's. The child reports through callbacks, so a running process needs
 * no fiber. Fibers are used only for events that may never come: the next child under a restart policy, the time limit,
 * the kill after a graceful termination, and the end of output that is held open after a kill (`ProcessFibers`).
 *
 * The supervisor closes the scope with the session, or some time after the process has closed, once nothing of its tree
 * is left. This interrupts the fibers and waits for them, a start in progress included. Then it kills the rest of the
 * tree and frees the retained output. It does not wait for the child to be reaped: `Supervisor.end` does that before,
 * and is bounded.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Scope from "effect/Scope"
import { CannotFreeze } from "../internal/CannotFreeze.js"
import { FiberGroup } from "../internal/FiberGroup.js"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import * as Immediate from "../internal/Immediate.js"
import type { OutputStream, Restart, WriteResult } from "../protocol/ExecApi.js"
import type { LimitReached } from "../protocol/Failure.js"
import type { Signal } from "../protocol/Signals.js"
import * as Denial from "../sandbox/Denial.js"
import { type Child, type ChildSpec, ExitStatus, type Io, type SignalTarget } from "../spawn/Child.js"
import * as ExitUsage from "../spawn/ExitUsage.js"
import { type Allowance, unlimited } from "./Allowance.js"
import type { RetainedOutput } from "./OutputBuffer.js"
import type { EventSource, ProcessEvents } from "./ProcessEvents.js"
import type { ProcessState } from "./ProcessImage.js"
import type { ProcessObserver, Release } from "./ProcessObserver.js"
import { Event, State, transition } from "./ProcessState.js"
import { type Description, ProcessView } from "./ProcessView.js"
import { ResizeMarks } from "./ResizeMarks.js"
import type { RestartPolicy } from "./RestartPolicy.js"
import * as StdinQueue from "./StdinQueue.js"

/** What the fibers of a process wait for. Monotonic times in milliseconds; they may have passed. */
export interface Deadlines {
  /** The time limit. */
  readonly expiresAtMs?: number
  /** The kill of what a graceful termination has left. */
  readonly killsAtMs?: number | undefined
  /** Whether its output is abandoned soon after its exit. */
  readonly abandons?: boolean
  /** The end of the time that it is retained, once it has closed. */
  readonly forgottenAtMs?: number
}

/** What starts a process again. */
export interface Keeping {
  readonly spec: ChildSpec
  readonly options: Restart
  readonly policy: RestartPolicy
}

/** One process. Its methods act at once. Those that wait are Effects that can be interrupted without side effects. */
export class ManagedProcess extends ProcessView implements EventSource {
  private expired = false
  private stdinEnded = false
  private killed: Child | undefined
  private listening = false
  private paused = false
  private final = false
  private confined = false
  private writeIds: StdinQueue.WriteIds | undefined
  private stdin: StdinQueue.StdinQueue | undefined
  private onClosed = () => {}

  /** Most processes have none. */
  deadlines: Deadlines | undefined
  /** Whether the next child is being started. */
  isSpawning = false
  /** The memory that it takes from its session, besides input. */
  weight = 0
  /** Set under a restart policy. */
  keeping: Keeping | undefined

  private group: FiberGroup | undefined
  /** Most processes have none. */
  private observers: Set<ProcessObserver> | undefined

  private constructor(
    /** Closes when the process was forgotten and nothing of its tree is left, or with its session. */
    readonly scope: Scope.CloseableScope,
    description: Description,
    output: RetainedOutput,
    private readonly events: ProcessEvents,
    private readonly stdinLimit: number,
    /** Whether the end of the leader leads to another start. */
    private readonly mayRestart: (status: ExitStatus) => boolean,
    /** The memory budget of queued input. */
    private readonly allowance: Allowance
  ) {
    super(description, output)
  }

  /** A process without a child yet. Its scope closes at the latest with `within`. */
  static make(
    within: Scope.Scope,
    description: Description,
    output: RetainedOutput,
    events: ProcessEvents,
    stdinLimit: number,
    mayRestart: (status: ExitStatus) => boolean,
    allowance: Allowance = unlimited
  ): Effect.Effect<ManagedProcess> {
    return Effect.flatMap(Scope.fork(within, ExecutionStrategy.sequential), (scope) => {
      const process = new ManagedProcess(scope, description, output, events, stdinLimit, mayRestart, allowance)
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.sync(() => process.release())
        ),
        process
      )
    })
  }

  /** The fibers of the process. They end, and are awaited, before its child is released. Most processes have none. */
  get fibers(): Effect.Effect<FiberGroup> {
    return Effect.suspend(() => {
      if (this.group !== undefined) return Effect.succeed(this.group)
      return Effect.tap(FiberGroup.make(this.scope), (group) => {
        this.group = group
      })
    })
  }

  /** Sets the child. Its reports begin with `listen`. */
  spawned(child: Child): void {
    this.state = transition(this.state, Event.Spawned({ child }))
    if (this.description.hasStdin) {
      this.writeIds ??= new StdinQueue.WriteIds(this.allowance)
      this.stdin = StdinQueue.make(this.inputOf(child), this.stdinLimit, this.writeIds, this.allowance)
      if (this.stdinEnded) this.stdin.end()
    }
    this.waiters.wake()
  }

  /** Tells that the child is confined: the restrictions may cause failures. */
  confine(): void {
    this.confined = true
  }

  /** Tells that the start failed. */
  spawnFailed(): void {
    this.state = transition(this.state, Event.SpawnFailed())
    this.waiters.wake()
  }

  /**
   * Starts the child's reports, once. Separate from `spawned`, so that the answer to the start request is sent first.
   * Calls `onClosed` when the process has closed, at once if it has already. `until` would do the same, but takes 1.5
   * kB per process and is evaluated at each chunk of output.
   */
  listen(onClosed: () => void = () => {}): void {
    this.onClosed = onClosed
    if (this.state._tag === "Closed") onClosed()
    const child = this.child()
    if (child === undefined || this.listening) return
    this.listening = true
    this.events.onStarted(this, child.pid)
    this.listenTo(child)
    this.waiters.wake()
  }

  /** Whether no start is going on: only then can it be handed over. */
  get isSettled(): boolean {
    return !this.isSpawning && (this.state._tag === "Failed" || (this.state._tag !== "Starting" && this.listening))
  }

  /** Completes when no start is going on, or after `waitMs`. */
  untilSettled(waitMs: number): Effect.Effect<void> {
    return this.waiters.until(() => this.isSettled, waitMs)
  }

  /** Tells that the start of the next child is over. */
  spawnEnded(): void {
    this.isSpawning = false
    this.waiters.wake()
  }

  /** Its state, for `restore`. Has no effect. Throws a `CannotFreeze` if it cannot be handed over. */
  freeze(writer: ImageWriter): ProcessState {
    const { state, description } = this
    const what = `process ${description.processId}`
    if (!this.isSettled || state._tag === "Starting" || state._tag === "Failed") {
      throw new CannotFreeze({ message: `${what} is being started` })
    }
    const { freeze } = state.child
    if (freeze === undefined) {
      throw new CannotFreeze({ message: `${what} belongs to a spawner that cannot hand its children over` })
    }
    const isPending = state._tag === "Running" || state._tag === "Restarting"
    return {
      description: { ...description, argv: [...description.argv] },
      phase: state._tag,
      outputEnded: isPending && state.outputEnded,
      status: state._tag === "Running" ? undefined : state.status,
      nextSeq: this.nextSeq,
      exitSeq: this.exitSeq,
      denied: this.denied,
      ...(this.used === undefined ? {} : { usage: this.used }),
      outOfMemory: this.outOfMemory,
      timedOut: this.timedOut,
      failure: this.failure,
      restarts: this.restarts,
      outputBytes: this.outputBytes,
      lastOutputAtMs: this.lastOutputAtMs,
      size: this.size,
      marks: this.marks?.freeze(),
      expired: this.expired,
      stdinEnded: this.stdinEnded,
      killed: this.killed === state.child,
      final: this.final,
      confined: this.confined,
      writeIds: this.writeIds?.list() ?? [],
      stdin: this.stdin?.freeze(writer),
      output: this.output.freeze(writer),
      child: freeze(writer)
    }
  }

  /**
   * Takes over the state of the version of the server before. This one has just been made, with the output. Returns what
   * starts the child's reports, and passes on the input that it has not taken.
   */
  restore(frozen: ProcessState, child: Child, reader: ImageReader): (onClosed: () => void) => void {
    this.state = stateOf(frozen, child)
    this.nextSeq = frozen.nextSeq
    this.exitSeq = frozen.exitSeq
    this.denied = frozen.denied
    this.used = frozen.usage
    this.outOfMemory = frozen.outOfMemory
    this.timedOut = frozen.timedOut
    this.failure = frozen.failure
    this.restarts = frozen.restarts
    this.outputBytes = frozen.outputBytes
    this.lastOutputAtMs = frozen.lastOutputAtMs
    this.size = frozen.size
    if (frozen.marks !== undefined) this.marks = new ResizeMarks(frozen.marks.first, frozen.marks)
    this.expired = frozen.expired
    this.stdinEnded = frozen.stdinEnded
    if (frozen.killed) this.killed = child
    this.final = frozen.final
    this.confined = frozen.confined
    this.listening = true
    let resend: ReturnType<StdinQueue.StdinQueue["restore"]> = () => {}
    const unsent = frozen.child.unsent.map((section) => reader.bytes(section))
    if (frozen.stdin !== undefined) {
      this.writeIds = new StdinQueue.WriteIds(this.allowance)
      this.writeIds.restore(frozen.writeIds)
      this.stdin = StdinQueue.make(this.inputOf(child), this.stdinLimit, this.writeIds, this.allowance)
      resend = this.stdin.restore(frozen.stdin, reader, unsent)
    }
    return (onClosed) => {
      this.onClosed = onClosed
      this.listenTo(child)
      // Observers have seen it before.
      resend(child.write)
      // A terminal has the end in its input.
      if (frozen.child._tag === "Pipe" && frozen.child.ending) child.endStdin()
    }
  }

  /** Adds an observer; the returned function removes it. */
  observe(observer: ProcessObserver): () => void {
    this.observers ??= new Set()
    this.observers.add(observer)
    return () => {
      this.observers?.delete(observer)
      if (this.observers?.size === 0) this.observers = undefined
    }
  }

  /** Sets the child that replaces the previous one. */
  restarted(child: Child): void {
    this.spawned(child)
    this.failure = null
    this.restarts++
    const seq = this.nextSeq++
    this.events.onRestarted(this, seq, this.restarts, child.pid)
    this.tell((observer) => observer.onRestarted(seq, this.restarts, child.pid))
    this.listenTo(child)
    if (this.paused) child.pause()
  }

  /** Tells that a restart failed. Without another attempt, the previous end is final. */
  restartFailed(message: string, again: boolean): void {
    this.failure = message
    if (!again) this.finish()
  }

  /** Prevents further restarts: the end of this child, or of the last one, is the end of the process. */
  finish(): void {
    this.final = true
    this.advance(Event.RestartAbandoned())
  }

  /** Stops reading the child's output. */
  pause(): void {
    this.paused = true
    this.child()?.pause()
  }

  /** Reads the child's output again. */
  resume(): void {
    this.paused = false
    this.child()?.resume()
  }

  /** Queues input; see `StdinQueue`. */
  write(bytes: Buffer, writeId: string | undefined): Effect.Effect<WriteResult["status"], LimitReached> {
    return Immediate.make((): Effect.Effect<WriteResult["status"], LimitReached> => {
      if (this.state._tag === "Restarting") return Effect.succeed(this.stdinEnded ? "stdinClosed" : "starting")
      return this.stdin === undefined ? Effect.succeed("stdinClosed") : this.stdin.write(bytes, writeId)
    })
  }

  /**
   * Ends stdin after everything written before. Idempotent, even without stdin. This ends the input of the process:
   * restarted children have none.
   */
  closeStdin(): void {
    this.stdinEnded = true
    this.stdin?.end()
  }

  /**
   * Sets the size of the terminal; `by`: the attachment that does. Descendants may still use it after the leader's exit.
   */
  resize(rows: number, cols: number, by: number | null = null): void {
    if (this.marks !== undefined && (rows !== this.size?.rows || cols !== this.size.cols)) {
      const mark = { seq: this.lastSeq, rows, cols, by }
      this.marks.add(mark)
      this.events.onResized?.(this, mark)
      this.tell((observer) => observer.onResized(mark))
    }
    this.size = { rows, cols }
    const child = this.child()
    // A child that is being killed must not see later requests.
    if (child !== this.killed) child?.resize(rows, cols)
  }

  /** The `Io` of the next child: the terminal keeps its current size. */
  resized(io: Io): Io {
    return io._tag === "Pty" ? { ...io, ...this.size } : io
  }

  /** Sends a signal. Without a recipient this is no error. */
  signal(signal: Signal, target: SignalTarget): void {
    if (signal === "SIGKILL" && target === "tree") {
      // SIGKILL is sent later in this turn of the event loop: input written until then must not arrive.
      if (this.state._tag === "Running") this.stdin?.close()
      this.killed = this.child()
    }
    // Until the output ends, members of the tree may be alive.
    if (this.state._tag !== "Closed" || this.hasRemains()) this.child()?.signal(signal, target)
  }

  /**
   * Kills the tree when its time has run out. The exit status tells whether that ended it: it may have been exiting by
   * itself.
   */
  expire(): void {
    this.expired = true
    this.finish()
    if (this.state._tag !== "Closed") this.kill()
  }

  /** Kills the tree, and closes stdin: further input could not be read. */
  kill(): void {
    this.signal("SIGKILL", "tree")
  }

  /** Abandons the remaining output, once the leader is gone. */
  abandonOutput(): void {
    if (this.state._tag === "Exited" || this.state._tag === "Restarting") this.state.child.abandonOutput()
  }

  /** Frees the retained output. It can no longer be read. */
  releaseOutput(): void {
    this.dismiss("released")
    this.output.release()
    this.stdin?.close()
    this.writeIds?.clear()
  }

  /** Runs when the scope closes: kills the rest of the tree. */
  private release(): void {
    this.kill()
    this.dismiss("sessionEnded")
    this.output.release()
  }

  private tell(event: (observer: ProcessObserver) => void): void {
    if (this.observers === undefined) return
    for (const observer of this.observers) event(observer)
  }

  /** The stdin of a child, whose observers see the input. */
  private inputOf(child: Child): StdinQueue.Sink {
    return {
      write: (bytes, done) => {
        this.tell((observer) => observer.onInput?.(bytes))
        child.write(bytes, done)
      },
      endStdin: () => child.endStdin()
    }
  }

  /** Tells the observers that the output is about to be freed. */
  private dismiss(reason: Release): void {
    const { observers } = this
    this.observers = undefined
    for (const observer of observers ?? []) observer.onReleased(reason)
  }

  private onOutput(stream: OutputStream, bytes: Buffer): void {
    const { maxChunkBytes } = this.output
    if (bytes.length <= maxChunkBytes) this.publish(stream, bytes)
    else {
      for (let start = 0; start < bytes.length; start += maxChunkBytes) {
        this.publish(stream, bytes.subarray(start, start + maxChunkBytes))
      }
    }
  }

  private publish(stream: OutputStream, bytes: Buffer): void {
    const seq = this.nextSeq++
    this.outputBytes += bytes.length
    this.lastOutputAtMs = Date.now()
    this.output.append(seq, stream, bytes)
    this.events.onOutput(this, seq, stream, bytes)
    if (this.observers !== undefined) for (const observer of this.observers) observer.onOutput(seq, stream, bytes)
    this.waiters.wake()
  }

  private listenTo(child: Child): void {
    child.listen({
      onOutput: (stream, bytes) => this.onOutput(stream, bytes),
      onExit: (status, usage) => {
        this.used = ExitUsage.add(this.used, usage)
        this.outOfMemory = (usage?.oomKills ?? 0) > 0
        this.advance(Event.LeaderReaped({ status, restart: !this.final && this.mayRestart(status) }))
      },
      onOutputEnd: () => this.advance(Event.OutputEnded()),
      onStdinClosed: () => this.stdin?.close()
    })
  }

  private advance(event: Event): void {
    const before = this.state
    this.state = transition(before, event)
    if (this.state === before || this.state._tag === "Running") return
    if (before._tag === "Running") this.stdin?.close()
    if (this.exited() && before._tag !== "Exited") {
      this.denied = this.confined && Denial.isLikely(this.exit(), this.output)
      // Timed out if killed, or if waiting for a restart. With any other status it ended by itself just before.
      this.timedOut = this.expired && (before._tag === "Restarting" || this.exit().signal === "SIGKILL")
      const seq = this.nextSeq++
      this.exitSeq = seq
      this.events.onExited(this, seq, this.exit(), this.timedOut)
      this.tell((observer) => observer.onExited(seq, this.exit(), this.timedOut))
    }
    if (this.state._tag === "Closed") {
      const seq = this.nextSeq++
      this.events.onClosed(this, seq)
      this.tell((observer) => observer.onClosed(seq))
      this.output.seal()
      this.onClosed()
    }
    this.waiters.wake()
  }
}

const stateOf = ({ phase, outputEnded, status }: ProcessState, child: Child): State => {
  if (phase === "Running") return State.Running({ child, outputEnded })
  const known = status ?? ExitStatus.Lost({ reason: "it was lost when the server was replaced" })
  if (phase === "Restarting") return State.Restarting({ child, status: known, outputEnded })
  return phase === "Exited" ? State.Exited({ child, status: known }) : State.Closed({ child, status: known })
}
