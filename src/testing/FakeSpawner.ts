/**
 * A spawner of fake children: the test sees what each child was asked to do and decides what it reports.
 *
 * Only a plan's `script` reads the clock. A child reports its death by a signal and the delivery of a write in a later
 * microtask, as a real child reports in a later turn of the event loop.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type { OutputStream } from "../protocol/ExecApi.js"
import * as Signals from "../protocol/Signals.js"
import {
  type Child,
  type ChildEvents,
  type ChildSpec,
  ExitStatus,
  type SignalTarget,
  SpawnError
} from "../spawn/Child.js"
import type { ChildLimits } from "../spawn/ChildLimits.js"
import type { ExitUsage } from "../spawn/ExitUsage.js"
import { maxChunkBytes } from "../spawn/ReadBuffer.js"
import { Spawner } from "../spawn/Spawner.js"

/** The first fake pid. Linux pids end at 2^22, so a fake pid never names a real process. */
const firstPid = 5_000_001

/**
 * How a child reacts to a signal. Called in a microtask after the signal was recorded.
 *
 * @category models
 */
export type Reaction = (child: FakeChild, signal: Signals.Signal, target: SignalTarget) => void

/**
 * How a spawn goes, and how its child behaves.
 *
 * @category models
 */
export interface Plan {
  /** Runs before the fork: a failure fails the spawn, and an effect that waits makes the spawn asynchronous. */
  readonly before?: Effect.Effect<unknown, SpawnError>
  /** How the child reacts to signals; `obedient` by default. */
  readonly onSignal?: Reaction
  /** The child does not read its stdin: writes stay pending until `completeWrites`. */
  readonly holdWrites?: boolean
  /** Whether a descendant keeps the output open after the leader's exit, until the tree is killed; see `remains`. */
  readonly remains?: boolean
  /** What the child does on its own, from the spawn on; see `Script`. Interrupted when the spawner's scope closes. */
  readonly script?: (child: FakeChild) => Effect.Effect<void>
}

/**
 * The test's view of a child. Its reports are synchronous: their effects are complete when the call returns.
 *
 * @category models
 */
export interface FakeChild {
  readonly spec: ChildSpec
  readonly pid: number
  /** Whether somebody listens to its reports. Earlier reports are kept until then. */
  readonly listening: boolean
  /** A copy of every write, in order. */
  readonly writes: ReadonlyArray<Buffer>
  /** All writes, as one text. */
  readonly written: string
  /** The number of writes that were not delivered yet. */
  readonly pendingWrites: number
  /** Every signal and its target, in order. */
  readonly signals: ReadonlyArray<readonly [signal: Signals.Signal, target: SignalTarget]>
  /** Every size the terminal was given, in order. */
  readonly resizes: ReadonlyArray<readonly [rows: number, cols: number]>
  /** Whether reading of its output is paused. What it emits during a pause is kept. */
  readonly paused: boolean
  /** Whether `endStdin` was called; a write after it is a defect. */
  readonly stdinEnded: boolean
  /** How often `endStdin` was called. */
  readonly stdinEnds: number
  /** Whether the server gave up its output. */
  readonly abandoned: boolean
  /** Whether it has exited. */
  readonly exited: boolean
  /** Whether a descendant survives the leader and keeps the output open; `hasRemains` answers this after the exit. */
  remains: boolean
  /** Writes output, in chunks of at most 64 KiB. A call after `endOutput` is a defect. */
  readonly emit: (stream: OutputStream, output: string | Buffer) => void
  /** Ends the leader with this status and usage. A second call is a defect. */
  readonly exit: (status: ExitStatus, usage?: ExitUsage) => void
  /** Ends all output streams, after what was emitted. A second call is a defect. */
  readonly endOutput: () => void
  /** Ends the output and exits with a code, as most children do. */
  readonly finish: (code: number) => void
  /** Dies of a signal at once. Its output ends too, unless a descendant `remains`. Does nothing after the exit. */
  readonly die: (signal: Signals.Signal) => void
  /** Closes its end of stdin. A second call does nothing. */
  readonly closeStdin: () => void
  /** Delivers the `count` oldest pending writes; all of them by default. */
  readonly completeWrites: (count?: number) => void
}

/**
 * Reacts as most programs do: dies of SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGKILL. SIGKILL to the tree ends all of it.
 *
 * @category constructors
 */
export const obedient: Reaction = (child, signal, target) => {
  if (signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGHUP" || signal === "SIGQUIT") child.die(signal)
  else stubborn(child, signal, target)
}

/**
 * Ignores everything but SIGKILL.
 *
 * @category constructors
 */
export const stubborn: Reaction = (child, signal, target) => {
  if (signal !== "SIGKILL") return
  const heldOpen = child.remains
  if (target !== "leader") child.remains = false
  if (!child.exited) child.die(signal)
  else if (heldOpen && !child.remains) child.endOutput()
}

/**
 * Ignores even SIGKILL, like a child in uninterruptible sleep.
 *
 * @category constructors
 */
export const immortal: Reaction = () => {}

/**
 * Dies of these signals and of SIGKILL, and ignores the others.
 *
 * @category constructors
 */
export const diesOf =
  (...fatal: ReadonlyArray<Signals.Signal>): Reaction =>
  (child, signal, target) => {
    if (fatal.includes(signal)) child.die(signal)
    else stubborn(child, signal, target)
  }

const defect = (message: string): never => {
  throw new Error(`FakeSpawner: ${message}`)
}

class Fake implements FakeChild {
  readonly writes: Array<Buffer> = []
  readonly signals: Array<readonly [Signals.Signal, SignalTarget]> = []
  readonly resizes: Array<readonly [number, number]> = []
  paused = false
  stdinEnds = 0
  abandoned = false
  exited = false
  remains: boolean

  private events: ChildEvents | undefined
  private readonly early: Array<() => void> = []
  private held: Array<() => void> = []
  private pending: Array<() => void> = []
  private outputEnded = false
  private stdinClosed = false

  /** The supervisor's view of it. */
  readonly child: Child

  constructor(
    readonly spec: ChildSpec,
    readonly pid: number,
    private readonly plan: Plan
  ) {
    this.remains = plan.remains ?? false
    this.child = {
      pid,
      listen: (events) => this.listen(events),
      pause: () => {
        this.paused = true
      },
      resume: () => this.resume(),
      write: (bytes, done) => this.write(bytes, done),
      endStdin: () => {
        this.stdinEnds++
      },
      resize: (rows, cols) => {
        this.resizes.push([rows, cols])
      },
      signal: (signal, target) => {
        this.signals.push([signal, target])
        queueMicrotask(() => (plan.onSignal ?? obedient)(this, signal, target))
      },
      hasRemains: () => !this.exited || this.remains,
      findRemains: () => !this.exited || this.remains,
      abandonOutput: () => this.abandon()
    }
  }

  get listening(): boolean {
    return this.events !== undefined
  }

  get written(): string {
    return Buffer.concat(this.writes).toString()
  }

  get pendingWrites(): number {
    return this.pending.length
  }

  get stdinEnded(): boolean {
    return this.stdinEnds > 0
  }

  emit(stream: OutputStream, output: string | Buffer): void {
    if (this.outputEnded && !this.abandoned) defect("output after its end")
    if (this.outputEnded) return
    const bytes = Buffer.from(output)
    for (let start = 0; start < bytes.length; start += maxChunkBytes) {
      const chunk = bytes.subarray(start, start + maxChunkBytes)
      this.whenRead(() => {
        // The buffer is only lent, as a real one is. Zeroing it exposes a listener that keeps it.
        const lent = Buffer.from(chunk)
        this.events?.onOutput(stream, lent)
        lent.fill(0)
      })
    }
  }

  exit(status: ExitStatus, usage?: ExitUsage): void {
    if (this.exited) defect("a second exit")
    this.exited = true
    this.report(() => this.events?.onExit(status, usage))
    const undelivered = this.pending.splice(0)
    queueMicrotask(() => {
      for (const done of undelivered) done()
    })
  }

  endOutput(): void {
    if (this.outputEnded && !this.abandoned) defect("a second end of output")
    if (this.outputEnded) return
    this.outputEnded = true
    this.whenRead(() => this.events?.onOutputEnd())
  }

  finish(code: number): void {
    this.endOutput()
    this.exit(ExitStatus.Exited({ code }))
  }

  die(signal: Signals.Signal): void {
    if (this.exited) return
    this.exit(ExitStatus.Signaled({ number: Signals.numberOf(signal), signal }))
    if (!this.remains && !this.outputEnded) this.endOutput()
  }

  closeStdin(): void {
    if (this.stdinClosed) return
    this.stdinClosed = true
    this.report(() => this.events?.onStdinClosed())
  }

  completeWrites(count = this.pending.length): void {
    for (const done of this.pending.splice(0, count)) done()
  }

  private listen(events: ChildEvents): void {
    if (this.events !== undefined) defect("listen was called twice")
    this.events = events
    queueMicrotask(() => {
      for (let next = this.early.shift(); next !== undefined; next = this.early.shift()) next()
    })
  }

  private write(bytes: Buffer, done: () => void): void {
    if (this.stdinEnded) defect("a write after endStdin")
    if (this.spec.io._tag === "Pipe" && !this.spec.io.stdin) defect("a write to a child without stdin")
    this.writes.push(Buffer.from(bytes))
    if (this.plan.holdWrites === true && !this.exited) this.pending.push(done)
    else queueMicrotask(done)
  }

  private resume(): void {
    if (!this.paused) return
    this.paused = false
    queueMicrotask(() => {
      while (!this.paused && this.held.length > 0) this.held.shift()?.()
    })
  }

  private abandon(): void {
    if (this.abandoned) return
    this.abandoned = true
    this.held = []
    // An end of output that a pause held back was dropped with the held chunks: report it again.
    if (this.outputEnded && !this.paused) return
    this.outputEnded = true
    queueMicrotask(() => this.report(() => this.events?.onOutputEnd()))
  }

  private report(event: () => void): void {
    if (this.events === undefined || this.early.length > 0) this.early.push(event)
    else event()
  }

  private whenRead(event: () => void): void {
    if (this.paused || this.held.length > 0) this.held.push(event)
    else this.report(event)
  }
}

/**
 * The test's control of the spawner.
 *
 * @category models
 */
export interface Shape {
  /** The specification of every spawn, in order; failed and unfinished spawns included. */
  readonly requests: ReadonlyArray<ChildSpec>
  /** Every child that was spawned, in order. */
  readonly children: ReadonlyArray<FakeChild>
  /** A child by its index in `children`; waits until it was spawned. */
  readonly child: (index: number) => Effect.Effect<FakeChild>
  /** Sets the plan of the next spawn that has none yet. */
  readonly next: (plan: Plan) => void
  /** Makes that spawn fail synchronously. */
  readonly failNext: (message: string) => void
}

/**
 * Options of the spawner.
 *
 * @category models
 */
export interface Options {
  /**
   * Whether it accepts children with a `confinement`, for tests of sandboxed starts. Such starts report an enforced
   * sandbox although nothing is confined. False by default: sandboxes are refused.
   */
  readonly confines?: boolean
  /** Why it refuses limits, or undefined. By default it accepts all; `spec.limits` of a child has them. */
  readonly refusalOf?: (limits: ChildLimits) => string | undefined
}

/**
 * The test's service; its layers provide the fake `Spawner` as well.
 *
 * @category tags
 */
export class FakeSpawner extends Context.Tag("exec-server/testing/FakeSpawner")<FakeSpawner, Shape>() {
  /** Children that follow `plan`, unless `next` sets another one. */
  static readonly layerOf = (
    plan: Plan,
    { confines = false, refusalOf = () => undefined }: Options = {}
  ): Layer.Layer<FakeSpawner | Spawner> =>
    Layer.scopedContext(
      Effect.map(FiberSet.makeRuntime<never>(), (run) => {
        const requests: Array<ChildSpec> = []
        const children: Array<FakeChild> = []
        const plans: Array<Plan> = []
        const waiters = new Set<() => void>()

        const fork = (spec: ChildSpec, plan: Plan): Child => {
          const fake = new Fake(spec, firstPid + children.length, plan)
          children.push(fake)
          for (const waiter of waiters) waiter()
          if (plan.script !== undefined) run(plan.script(fake))
          return fake.child
        }
        const next = (plan: Plan) => {
          plans.push(plan)
        }
        const child = (index: number) =>
          Effect.async<FakeChild>((resume) => {
            const look = () => {
              const found = children[index]
              if (found === undefined) return
              waiters.delete(look)
              resume(Effect.succeed(found))
            }
            waiters.add(look)
            look()
            return Effect.sync(() => waiters.delete(look))
          })

        return Context.make(FakeSpawner, {
          requests,
          children,
          child,
          next,
          failNext: (message) => next({ before: new SpawnError({ message }) })
        }).pipe(
          Context.add(Spawner, {
            confines,
            refusalOf,
            spawn: (spec) =>
              Effect.suspend(() => {
                requests.push(spec)
                const chosen = { ...plan, ...plans.shift() }
                const forked = Effect.sync(() => fork(spec, chosen))
                return chosen.before === undefined ? forked : Effect.zipRight(chosen.before, forked)
              })
          })
        )
      })
    )

  /** Children that obey signals and accept writes at once. */
  static readonly layer: Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layerOf({})
}

/**
 * Children that obey signals and accept writes at once.
 *
 * @category layers
 * @example
 * const sessions = ExecServer.layerSessions.pipe(
 *   Layer.provideMerge(FakeSpawner.layer),
 *   Layer.provide(NodeServices.layer)
 * )
 */
export const layer: Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layer

/**
 * Children that follow `plan`, unless `next` sets another one.
 *
 * @category layers
 * @example
 * FakeSpawner.layerOf(Script.plan([Script.output("100 millis", "ready\n"), Script.exit("5 seconds")]))
 */
export const layerOf: (plan: Plan, options?: Options) => Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layerOf
