/**
 * The processes of one session: starts them, finds them, ends them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { CannotFreeze } from "../internal/CannotFreeze.js"
import { FiberGroup } from "../internal/FiberGroup.js"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import * as Immediate from "../internal/Immediate.js"
import * as LateLimits from "../internal/LateLimits.js"
import * as Monotonic from "../internal/Monotonic.js"
import type { ProcessInfo, StartParams, TerminateMode } from "../protocol/ExecApi.js"
import { InvalidParams, LimitReached, NotAllowed, ProcessExists, SpawnFailed } from "../protocol/Failure.js"
import type { ProcessId } from "../protocol/Ids.js"
import * as SystemText from "../protocol/SystemText.js"
import * as Confiner from "../sandbox/Confiner.js"
import { type Child, type ChildSpec, type Env, type Handover, SpawnError } from "../spawn/Child.js"
import type { ChildLimits } from "../spawn/ChildLimits.js"
import { SessionWaits, Waits } from "../spawn/SessionWaits.js"
import { SlowMounts } from "../spawn/SlowMounts.js"
import { Spawner } from "../spawn/Spawner.js"
import { Allowances, weightOf, weightOfAll } from "./Allowance.js"
import * as EnvPolicy from "./EnvPolicy.js"
import * as LimitPolicy from "./LimitPolicy.js"
import { ManagedProcess } from "./ManagedProcess.js"
import { OutputBuffer } from "./OutputBuffer.js"
import type { ProcessEvents } from "./ProcessEvents.js"
import * as ProcessFibers from "./ProcessFibers.js"
import type { SupervisedState, SupervisorState } from "./ProcessImage.js"
import { ProcessLimits } from "./ProcessLimits.js"
import * as ProcessMetrics from "./ProcessMetrics.js"
import * as RestartPolicy from "./RestartPolicy.js"
import { SkipGrace } from "./SkipGrace.js"

/** The terminal size of a start without `size`, the same as in the original. */
const defaultSize = { rows: 24, cols: 80 }

/** How long a killed process may take to be reaped, in milliseconds. One in uninterruptible sleep is left behind. */
const reapMs = 2000

/** Why a process could not be started. */
export type StartFailure = InvalidParams | LimitReached | NotAllowed | ProcessExists | SpawnFailed

/** The processes of one session. */
export interface Supervisor {
  /** Starts a process, synchronously up to the fork. */
  readonly start: (
    params: StartParams
  ) => Effect.Effect<{ readonly pid: number; readonly confined: boolean }, StartFailure>
  /** A process by its id, while it is retained. */
  readonly find: (processId: ProcessId) => ManagedProcess | undefined
  /** Runs `use` with a process, or with undefined. Calls keep their order, and wait until the start is over. */
  readonly act: <A, E>(
    processId: ProcessId,
    use: (process: ManagedProcess | undefined) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E>
  /**
   * Runs a start. While there is a mount that may hang, it goes on for the session also if whoever asks for it is
   * interrupted: the end of a connection does not wait for it.
   */
  readonly carryOut: <A, E>(start: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** What waits for file systems on behalf of the session. */
  readonly waits: Waits
  /** All processes, in the order they were started. */
  readonly list: () => ReadonlyArray<ManagedProcess>
  /** Ends a tree, by force or gracefully. Says whether the leader was still running. */
  readonly terminate: (processId: ProcessId, mode: TerminateMode) => Effect.Effect<{ readonly running: boolean }>
  /**
   * Ends all trees: SIGTERM, and SIGKILL after `graceMs`; without grace SIGKILL at once. Bounded. Returns the processes
   * that were running.
   */
  readonly end: (graceMs: number) => Effect.Effect<ReadonlyArray<ProcessInfo>>
  /** Completes when no start is going on, or after `waitMs`. */
  readonly untilSettled: (waitMs: number) => Effect.Effect<void>
  /** The state of all processes, for `adopt`. Has no effect. Throws a `CannotFreeze`. */
  readonly freeze: (writer: ImageWriter) => SupervisorState
  /**
   * Takes over the processes of a session of the version of the server before, frozen `elapsedMs` ago. Returns what lets
   * them go on.
   */
  readonly adopt: (state: SupervisorState, reader: ImageReader, elapsedMs: number) => Effect.Effect<Effect.Effect<void>>
}

/** Members of a request that contradict each other: not all of them could be carried out. */
const conflictOf = ({
  size,
  sizePolicy,
  screen,
  tty,
  prepared,
  envPolicy,
  metadata
}: StartParams): string | undefined => {
  const ofTerminal = Object.entries({ size, sizePolicy, screen }).find(
    ([, value]) => value !== undefined && value !== false
  )
  if (ofTerminal !== undefined && !tty) {
    return `\`${ofTerminal[0]}\` needs \`tty: true\`: a process on pipes has no terminal`
  }
  const resolved = Object.entries({ envPolicy, metadata }).find(([, value]) => value !== undefined)
  if (prepared === true && resolved !== undefined) {
    return `\`${resolved[0]}\` does not go with \`prepared: true\`: such a request is spawned exactly as it is, with \`env\` alone`
  }
  return undefined
}

/** Adds the identifiers that the client gave the process, as variables. They replace variables of the same name. */
const withMetadata = (env: Env, metadata: StartParams["metadata"]): Env =>
  metadata === undefined
    ? env
    : {
        ...env,
        ...(metadata.threadId === undefined ? {} : { CODEX_THREAD_ID: metadata.threadId }),
        ...(metadata.toolCallId === undefined ? {} : { CODEX_TOOL_CALL_ID: metadata.toolCallId })
      }

/** No restart. A constant, so that a process without a policy retains nothing of its start. */
const never = () => false

/** The memory of a process besides its strings and its output, in bytes. */
const processBytes = 1024

/** The memory retained for a start. With a restart policy that includes the environment. */
const weightOfStart = ({ processId, argv, env, envPolicy, restart }: StartParams): number =>
  processBytes +
  weightOf(processId) +
  weightOfAll(argv) +
  (restart === undefined ? 0 : weightOfAll(env) + weightOfAll(envPolicy?.set ?? {}))

/** What all sessions of a server share. */
const shared = Effect.gen(function* () {
  const spawner = yield* Spawner
  const buffers = yield* OutputBuffer
  yield* LateLimits.refuse("retained output", buffers)
  const limits = yield* ProcessLimits
  const { runtimeFlags } = Runtime.defaultRuntime
  const fiberRefs = yield* Effect.getFiberRefs
  return {
    spawner,
    buffers,
    limits,
    limitsOf: LimitPolicy.make(limits),
    confiner: yield* Confiner.forSpawner(spawner),
    skipGrace: yield* SkipGrace,
    mounts: yield* SlowMounts,
    clock: yield* Effect.clock,
    allowances: new Allowances(limits),
    stuck: { count: 0 },
    /** Forks the fibers of processes. */
    runFork: Runtime.runFork(Runtime.make({ context: Context.empty(), runtimeFlags, fiberRefs }))
  }
})

/** Synchronous: each connection makes one. */
const make = (
  {
    spawner,
    buffers,
    limits,
    limitsOf,
    confiner,
    skipGrace,
    mounts,
    clock,
    allowances,
    stuck,
    runFork
  }: Effect.Effect.Success<typeof shared>,
  observer: ProcessEvents,
  scope: Scope.Scope,
  retentionMs: number | undefined
) => {
  const events = new ProcessMetrics.MeasuredEvents(observer)
  const allowance = allowances.make()
  const waits = new Waits(stuck)
  const processes = new Map<ProcessId, ManagedProcess>()
  let open = 0
  let ending = false

  const fibers = new FiberGroup()
  // The forking fiber continues first. The new fiber must be interruptible even if the forking one is not, or the
  // scope could not close.
  const forkIn = <A, E>(group: FiberGroup, effect: Effect.Effect<A, E>) => {
    const fiber = runFork(effect, { immediate: false })
    group.add(fiber)
    return fiber
  }
  /** Forks a fiber of the session. */
  const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.sync(() => forkIn(fibers, effect))
  /** Forks a fiber of one process. */
  const forkFor = (process: ManagedProcess, effect: Effect.Effect<unknown>) =>
    Effect.map(process.fibers, (group) => forkIn(group, effect))

  const check = (params: StartParams): StartFailure | undefined => {
    if (params.argv.length === 0) return new InvalidParams({ message: "argv must not be empty" })
    const conflict = conflictOf(params)
    if (conflict !== undefined) return new InvalidParams({ message: conflict })
    if (ending) return new NotAllowed({ message: "the session is ending: no more processes are started" })
    const key = params.prepared === true ? "allowPreparedExec" : "allowDirectExec"
    if (!limits[key]) return new NotAllowed({ message: `${key} is false: this server does not start such processes` })
    if (processes.has(params.processId)) return new ProcessExists({ processId: params.processId })
    if (open >= limits.maxProcessesPerSession) {
      return new LimitReached({
        limit: "maxProcessesPerSession",
        value: limits.maxProcessesPerSession,
        advice: "end some processes first"
      })
    }
    return undefined
  }

  /** The limits of a start; a refusal if the server does not allow or cannot enforce them. */
  const bound = (params: StartParams): Either.Either<ChildLimits | undefined, NotAllowed> =>
    Either.flatMap(limitsOf(params.limits), (given) => {
      if (given === undefined) return Either.right(given)
      const { refusalOf = () => "this server does not enforce `limits`" } = spawner
      const why = refusalOf(given)
      return why === undefined ? Either.right(given) : Either.left(new NotAllowed({ message: why }))
    })

  /**
   * Processes that were forgotten while members of their trees live. Their scopes close when those have ended, or
   * with the session's.
   */
  const remains = new Set<ManagedProcess>()

  /** Removes a process: requests no longer find it. */
  const forget = (process: ManagedProcess) =>
    Effect.suspend(() => {
      processes.delete(process.processId)
      allowance.give(process.weight)
      process.releaseOutput()
      remains.add(process)
      const ended = Array.from(remains).filter((other) => !other.hasRemains())
      for (const other of ended) remains.delete(other)
      return Effect.forEach(ended, (other) => Scope.close(other.scope, Exit.void), { discard: true })
    })

  /** What is left to do when the scopes of the processes have closed. */
  const close = Effect.suspend(() => {
    processes.clear()
    remains.clear()
    allowance.close()
    return fibers.end
  })

  const forgetLater = (process: ManagedProcess, ms: number) => {
    process.deadlines = { ...process.deadlines, forgottenAtMs: Monotonic.of(clock) + ms }
    // A fiber of the session: a fiber of the process cannot close the scope that it runs in.
    forkIn(fibers, Effect.zipRight(Effect.sleep(ms), forget(process)))
  }

  /** What follows the close of a process: it is retained for some time, then forgotten. */
  const onClosed = (process: ManagedProcess) => () => {
    open--
    forgetLater(process, retentionMs ?? limits.closedProcessRetentionMs)
  }

  /** Starts the reports of a process. */
  const live = (process: ManagedProcess) => process.listen(onClosed(process))

  const spawn = (spec: ChildSpec): Effect.Effect<Child, SpawnError> =>
    Effect.suspend(() => {
      const startedAt = performance.now()
      return Effect.map(spawner.spawn(spec), (child) => {
        ProcessMetrics.spawnSeconds.unsafeUpdate((performance.now() - startedAt) / 1000, [])
        return child
      })
    }).pipe(
      Effect.withSpan("ProcessSupervisor.spawn", {
        captureStackTrace: false,
        attributes: { tty: spec.io._tag === "Pty" }
      }),
      Effect.provideService(SessionWaits, waits),
      Effect.mapError(({ message, isOfCwd }) => {
        const [program = ""] = spec.argv
        return new SpawnError({ message: SystemText.about(message, isOfCwd === true ? spec.cwd : program) })
      })
    )

  const start = (params: StartParams) =>
    Effect.gen(function* () {
      const refusal = check(params)
      if (refusal !== undefined) return yield* refusal
      const bounds = yield* bound(params)
      const weight = weightOfStart(params)
      const excess = allowance.take(weight)
      if (excess !== undefined) return yield* excess
      const output = yield* buffers.make
      const policy = params.restart === undefined ? undefined : yield* RestartPolicy.make(params.restart)
      const spec: ChildSpec = {
        argv: params.argv,
        arg0: params.arg0,
        cwd: params.cwd.path,
        env: withMetadata(EnvPolicy.resolve(params.env, params.envPolicy, globalThis.process.env), params.metadata),
        io: params.tty ? { _tag: "Pty", ...(params.size ?? defaultSize) } : { _tag: "Pipe", stdin: params.pipeStdin },
        ...(bounds === undefined ? {} : { limits: bounds })
      }
      const process = yield* ManagedProcess.make(
        scope,
        {
          processId: params.processId,
          argv: params.argv,
          cwd: params.cwd.path,
          tty: params.tty,
          size: params.tty ? (params.size ?? defaultSize) : undefined,
          hasStdin: params.tty || params.pipeStdin,
          sizePolicy: params.sizePolicy,
          startedAtMs: yield* Clock.currentTimeMillis
        },
        output,
        events,
        limits.stdinQueueBytesPerProcess,
        policy?.allows ?? never,
        allowance
      )
      process.weight = weight
      processes.set(params.processId, process)
      open++
      // The process is registered first: checking the confinement may take a while, and must not delay later
      // requests.
      const { child, confined, isConfined } = yield* Effect.gen(function* () {
        const confinement =
          params.sandbox === undefined
            ? undefined
            : yield* Effect.provideService(confiner.confine(params.sandbox, { env: spec.env }), SessionWaits, waits)
        const confined = confinement === undefined ? spec : { ...spec, confinement }
        return { child: yield* spawn(confined), confined, isConfined: confinement !== undefined }
      }).pipe(
        Effect.onError(() =>
          Effect.suspend(() => {
            open--
            process.spawnFailed()
            return forget(process)
          })
        )
      )
      if (isConfined) process.confine()
      process.spawned(child)
      // The session ended during the spawn: the child has no owner any more.
      if (ending) {
        process.listen()
        process.signal("SIGKILL", "tree")
      }
      // Later than the answer, also where that has to pass through the fiber of `carryOut`, or its fiber yields.
      const lives = Effect.sync(() => live(process))
      yield* fork(Effect.zipRight(Effect.yieldNow(), lives))
      if (policy !== undefined && params.restart !== undefined) {
        process.keeping = { spec: confined, options: params.restart, policy }
        yield* forkFor(process, ProcessFibers.keepUp(process, confined, policy, spawn))
      }
      if (params.timeoutMs !== undefined) yield* forkFor(process, ProcessFibers.expire(process, params.timeoutMs))
      return { pid: child.pid, confined: isConfined }
    }).pipe(
      Effect.catchTag("SpawnError", ({ message }) =>
        Effect.zipRight(
          // Forked, so that the answer is sent first.
          fork(Effect.sync(() => events.onFailed(params.processId, message))),
          new SpawnFailed({ message })
        )
      ),
      Effect.uninterruptible
    )

  const carryOut: Supervisor["carryOut"] = (start) =>
    Effect.suspend(() => {
      if (!mounts.isPresent()) return start
      // With what the caller has of its own: the span that encloses the start, for example.
      return Effect.flatMap(Effect.runtime(), (runtime) => {
        const fiber = Runtime.runFork(runtime)(Effect.uninterruptible(start))
        fibers.add(fiber)
        return Fiber.join(fiber)
      })
    })

  const act: Supervisor["act"] = (processId, use) =>
    Immediate.make(() => {
      const process = processes.get(processId)
      if (process?.tag !== "Starting") return use(process)
      // Forked: it is carried out even if the client disconnects during the start.
      const later = Effect.zipRight(
        process.untilLeft("Starting"),
        Effect.suspend(() => use(process.tag === "Failed" ? undefined : process))
      )
      return Effect.flatMap(fork(later), Fiber.join)
    })

  const kill = (process: ManagedProcess) =>
    Effect.suspend(() => {
      process.finish()
      process.kill()
      return forkFor(process, ProcessFibers.abandonOutput(process))
    })

  const terminate = (processId: ProcessId, mode: TerminateMode) =>
    act(processId, (process) => {
      if (process === undefined) return Effect.succeed({ running: false })
      const running = process.tag === "Running" || process.tag === "Restarting"
      process.finish()
      if (mode.type === "force") return Effect.as(kill(process), { running })
      process.signal("SIGTERM", "tree")
      return Effect.as(forkFor(process, ProcessFibers.killLater(process, mode.timeoutMs, kill(process))), { running })
    })

  const end = (graceMs: number) =>
    Effect.gen(function* () {
      ending = true
      waits.end()
      const all = Array.from(processes.values())
      const running = all.filter(({ tag }) => tag === "Running" || tag === "Restarting")
      for (const process of all) process.finish()
      const allClosed = (waitMs: number) =>
        Effect.forEach(all, (process) => process.untilClosed(waitMs), { concurrency: "unbounded", discard: true })
      if (graceMs > 0) {
        for (const process of [...all, ...remains]) process.signal("SIGTERM", "tree")
        // Interruptible, or the race would wait for the loser.
        yield* Effect.raceFirst(Effect.interruptible(allClosed(graceMs)), Effect.interruptible(skipGrace))
      }
      for (const process of [...all, ...remains]) process.signal("SIGKILL", "tree")
      yield* allClosed(ProcessFibers.lateOutputMs)
      for (const process of all) process.abandonOutput()
      yield* allClosed(reapMs - ProcessFibers.lateOutputMs)
      return running.map((process) => process.info())
    })

  const untilSettled = (waitMs: number) =>
    Effect.suspend(() => {
      const unsettled = Array.from(processes.values()).filter(({ isSettled }) => !isSettled)
      return Effect.forEach(unsettled, (process) => process.untilSettled(waitMs), {
        concurrency: "unbounded",
        discard: true
      })
    })

  const freeze = (writer: ImageWriter): SupervisorState => {
    if (spawner.handover === undefined && processes.size + remains.size > 0) {
      throw new CannotFreeze({ message: "the spawner of this server cannot hand its children over" })
    }
    const now = Monotonic.of(clock)
    const left = (atMs: number | undefined) => (atMs === undefined ? undefined : Math.max(0, atMs - now))
    const freezeOne = (process: ManagedProcess, forgotten: boolean): SupervisedState => {
      const { deadlines, keeping, weight } = process
      return {
        process: process.freeze(writer),
        forgotten,
        weight,
        retainedMs: left(deadlines?.forgottenAtMs),
        expiresMs: left(deadlines?.expiresAtMs),
        killsMs: left(deadlines?.killsAtMs),
        abandons: deadlines?.abandons ?? false,
        restart:
          keeping === undefined
            ? undefined
            : { spec: keeping.spec, options: keeping.options, state: keeping.policy.freeze() }
      }
    }
    return {
      processes: [
        ...Array.from(processes.values())
          .filter(({ tag }) => tag !== "Failed")
          .map((one) => freezeOne(one, false)),
        ...Array.from(remains)
          .filter((one) => one.hasRemains())
          .map((one) => freezeOne(one, true))
      ]
    }
  }

  /** Takes over one process. Returns what lets it go on. */
  const adoptOne = (state: SupervisedState, reader: ImageReader, elapsedMs: number) =>
    Effect.gen(function* () {
      const { process: frozen, restart, weight } = state
      const { handover } = spawner
      if (handover === undefined) return yield* Effect.dieMessage("the spawner of this server adopts no children")
      const policy =
        restart === undefined ? undefined : yield* RestartPolicy.make(restart.options, restart.state, elapsedMs)
      const process = yield* ManagedProcess.make(
        scope,
        frozen.description,
        buffers.adopt(frozen.output, reader),
        events,
        limits.stdinQueueBytesPerProcess,
        policy?.allows ?? never,
        allowance
      )
      const begin = process.restore(frozen, handover.adopt(frozen.child, reader), reader)
      const { tag } = process
      const isClosed = tag === "Closed"
      events.adopted(process, process.lastSeq, isClosed || tag === "Exited", isClosed)
      if (state.forgotten) remains.add(process)
      else {
        process.weight = weight
        allowance.restore(weight)
        processes.set(process.processId, process)
        if (!isClosed) open++
      }
      if (policy !== undefined && restart !== undefined) {
        process.keeping = { spec: restart.spec, options: restart.options, policy }
      }
      const left = (ms: number | undefined) => (ms === undefined ? undefined : Math.max(0, ms - elapsedMs))
      return Effect.gen(function* () {
        begin(isClosed ? () => {} : onClosed(process))
        const expiresMs = left(state.expiresMs)
        const killsMs = left(state.killsMs)
        // It may be about members of the tree that have survived.
        if (killsMs !== undefined) yield* forkFor(process, ProcessFibers.killLater(process, killsMs, kill(process)))
        if (isClosed) {
          if (!state.forgotten) forgetLater(process, left(state.retainedMs) ?? limits.closedProcessRetentionMs)
          return
        }
        if (policy !== undefined && restart !== undefined && (tag === "Running" || tag === "Restarting")) {
          yield* forkFor(process, ProcessFibers.keepUp(process, restart.spec, policy, spawn))
        }
        if (expiresMs !== undefined) yield* forkFor(process, ProcessFibers.expire(process, expiresMs))
        if (state.abandons) yield* forkFor(process, ProcessFibers.abandonOutput(process))
      })
    })

  const adopt: Supervisor["adopt"] = (state, reader, elapsedMs) =>
    Effect.map(
      Effect.forEach(state.processes, (one) => adoptOne(one, reader, elapsedMs)),
      (begins) => Effect.all(begins, { discard: true })
    )

  const supervisor: Supervisor = {
    start,
    untilSettled,
    freeze,
    adopt,
    find: (processId) => processes.get(processId),
    carryOut,
    act,
    waits,
    list: () => Array.from(processes.values()),
    terminate,
    end
  }
  return Effect.as(Scope.addFinalizer(scope, close), supervisor)
}

/** Makes the supervisor of a session. */
export class ProcessSupervisor extends Context.Tag("exec-server/ProcessSupervisor")<
  ProcessSupervisor,
  {
    /**
     * A supervisor whose processes live in the scope and report to `events`. It retains closed ones for `retentionMs`, by
     * default as long as the limits say.
     */
    readonly make: (events: ProcessEvents, scope: Scope.Scope, retentionMs?: number) => Effect.Effect<Supervisor>
    /** Hands the children of all of them over; absent if the spawner cannot. */
    readonly handover: Handover | undefined
  }
>() {
  /** Supervisors of the children that `Spawner` starts. */
  static readonly layer: Layer.Layer<ProcessSupervisor, never, Spawner | OutputBuffer> = Layer.effect(
    ProcessSupervisor,
    Effect.map(shared, (all) => ({
      handover: all.spawner.handover,
      make: (events, scope, retentionMs) => make(all, events, scope, retentionMs)
    }))
  )
}
