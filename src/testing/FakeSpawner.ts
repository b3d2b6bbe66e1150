/**
 * A spawner whose children exist only in the test: it sees what they were asked to do and decides what they report.
 *
 * Nothing here reads a clock but a plan's `script`. What a child reports by itself (its death by a signal, the delivery of a write) comes in a
 * later microtask, as a real child's reports come in a later turn of the event loop.
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
import { maxChunkBytes } from "../spawn/ReadBuffer.js"
import { Spawner } from "../spawn/Spawner.js"

/** Pids of fake children start here: above what Linux ever gives out (2^22), so that none is mistaken for a real one. */
const firstPid = 5_000_001

/**
 * What a child does about a signal, after it was recorded; called in a later microtask.
 *
 * @category models
 */
export type Reaction = (child: FakeChild, signal: Signals.Signal, target: SignalTarget) => void

/**
 * What a spawn is going to do, and what its child will be like.
 *
 * @category models
 */
export interface Plan {
  /** Runs in place of the fork: its failure refuses the spawn, and one that waits makes the spawn asynchronous. */
  readonly before?: Effect.Effect<unknown, SpawnError>
  /** What the child does about signals; `obedient` without it. */
  readonly onSignal?: Reaction
  /** Leaves writes undelivered until `completeWrites`: a child that does not read its stdin. */
  readonly holdWrites?: boolean
  /** Whether a descendant holds on to the output after the leader's exit, until the tree is killed; see `remains`. */
  readonly remains?: boolean
  /** What the child does by itself, from the spawn on; see `Script`. Interrupted when the spawner's scope closes. */
  readonly script?: (child: FakeChild) => Effect.Effect<void>
}

/**
 * A child, seen from the other side. Its reports are synchronous: what they cause has happened on return.
 *
 * @category models
 */
export interface FakeChild {
  readonly spec: ChildSpec
  readonly pid: number
  /** Whether its reports have begun; what it reports before is kept until then. */
  readonly listening: boolean
  /** Every write, in order; copies. */
  readonly writes: ReadonlyArray<Buffer>
  /** All of it as one text. */
  readonly written: string
  /** Writes that were not delivered yet. */
  readonly pendingWrites: number
  /** Every signal and whom it was sent to, in order. */
  readonly signals: ReadonlyArray<readonly [signal: Signals.Signal, target: SignalTarget]>
  /** Every size the terminal was given, in order. */
  readonly resizes: ReadonlyArray<readonly [rows: number, cols: number]>
  /** Whether its output is not being read now; what it emits meanwhile is kept. */
  readonly paused: boolean
  /** Whether `endStdin` was called; a write after it is a defect. */
  readonly stdinEnded: boolean
  /** How often `endStdin` was called. */
  readonly stdinEnds: number
  /** Whether its output was given up. */
  readonly abandoned: boolean
  /** Whether it has exited. */
  readonly exited: boolean
  /** Whether `hasRemains` answers true after the exit: something of the tree lives on and holds the output open. */
  remains: boolean
  /** Writes output, in chunks of at most 64 KiB; after `endOutput` a defect. */
  readonly emit: (stream: OutputStream, output: string | Buffer) => void
  /** Lets the leader be reaped; a second time is a defect. */
  readonly exit: (status: ExitStatus) => void
  /** Lets every output stream end, after what was emitted; a second time is a defect. */
  readonly endOutput: () => void
  /** Exits with a code, its output ended: what most children do. */
  readonly finish: (code: number) => void
  /** Dies of a signal at once; its output ends unless something `remains`. Nothing if it has exited. */
  readonly die: (signal: Signals.Signal) => void
  /** Closes its end of stdin; nothing the second time. */
  readonly closeStdin: () => void
  /** Delivers the oldest pending writes: all of them, or as many as given. */
  readonly completeWrites: (count?: number) => void
}

/**
 * How most programs take signals: those that end a program by default end this one, and SIGKILL for the tree all of it.
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
 * Does not even die of SIGKILL: a child in uninterruptible sleep.
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

  /** What the supervisor holds of it. */
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
        // A buffer of its own, worthless after the call: whoever keeps it is found out.
        const lent = Buffer.from(chunk)
        this.events?.onOutput(stream, lent)
        lent.fill(0)
      })
    }
  }

  exit(status: ExitStatus): void {
    if (this.exited) defect("a second exit")
    this.exited = true
    this.report(() => this.events?.onExit(status))
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
    // An end that was held up by a pause is lost with what was held before it.
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
 * The test's hold on the spawner.
 *
 * @category models
 */
export interface Shape {
  /** Every specification that was asked for, in order, also where the spawn failed or has not finished. */
  readonly requests: ReadonlyArray<ChildSpec>
  /** Every child that was spawned, in order. */
  readonly children: ReadonlyArray<FakeChild>
  /** A child by its place in `children`; waits until it is there. */
  readonly child: (index: number) => Effect.Effect<FakeChild>
  /** Decides about the next spawn that is not decided about yet. */
  readonly next: (plan: Plan) => void
  /** Makes that spawn fail, synchronously. */
  readonly failNext: (message: string) => void
}

/**
 * What can be chosen about the spawner.
 *
 * @category models
 */
export interface Options {
  /**
   * Whether it accepts children with a `confinement`, for tests of sandboxed starts: whoever asks for one is told that
   * it is enforced. Without it sandboxes are refused, as of any spawner that does not keep them.
   */
  readonly confines?: boolean
}

/**
 * Fake children: their spawner for the program, and this service for its test.
 *
 * @category tags
 */
export class FakeSpawner extends Context.Tag("exec-server/testing/FakeSpawner")<FakeSpawner, Shape>() {
  /** Children that follow `plan` where `next` says nothing else. */
  static readonly layerOf = (plan: Plan, { confines = false }: Options = {}): Layer.Layer<FakeSpawner | Spawner> =>
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

  /** Children that are obedient and take their writes at once. */
  static readonly layer: Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layerOf({})
}

/**
 * Children that are obedient and take their writes at once.
 *
 * @category layers
 * @example
 * const sessions = ExecServer.layerSessions.pipe(Layer.provideMerge(FakeSpawner.layer), Layer.provide(NodeServices.layer))
 */
export const layer: Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layer

/**
 * Children that follow `plan` where `next` says nothing else.
 *
 * @category layers
 * @example
 * FakeSpawner.layerOf(Script.plan([Script.output("100 millis", "ready\n"), Script.exit("5 seconds")]))
 */
export const layerOf: (plan: Plan, options?: Options) => Layer.Layer<FakeSpawner | Spawner> = FakeSpawner.layerOf
