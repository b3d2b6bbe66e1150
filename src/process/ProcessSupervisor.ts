/**
 * The processes of one session: starts them, finds them, ends them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { FiberGroup } from "../internal/FiberGroup.js"
import * as Immediate from "../internal/Immediate.js"
import * as LateLimits from "../internal/LateLimits.js"
import type { ProcessInfo, StartParams, TerminateMode } from "../protocol/ExecApi.js"
import { InvalidParams, LimitReached, NotAllowed, ProcessExists, SpawnFailed } from "../protocol/Failure.js"
import type { ProcessId } from "../protocol/Ids.js"
import * as Confiner from "../sandbox/Confiner.js"
import type { Child, ChildSpec, Env, SpawnError } from "../spawn/Child.js"
import { StuckStarts } from "../spawn/SlowStarts.js"
import { Spawner } from "../spawn/Spawner.js"
import { type Allowance, Allowances, weightOf, weightOfAll } from "./Allowance.js"
import * as EnvPolicy from "./EnvPolicy.js"
import { ManagedProcess } from "./ManagedProcess.js"
import { OutputBuffer } from "./OutputBuffer.js"
import type { ProcessEvents } from "./ProcessEvents.js"
import * as ProcessFibers from "./ProcessFibers.js"
import { ProcessLimits } from "./ProcessLimits.js"
import * as ProcessMetrics from "./ProcessMetrics.js"
import * as RestartPolicy from "./RestartPolicy.js"
import { SkipGrace } from "./SkipGrace.js"

/** A terminal's size without `size` (the original's, fixed). */
const defaultSize = { rows: 24, cols: 80 }

/** How long a killed process may take to be reaped, in milliseconds: one in uninterruptible sleep is left behind. */
const reapMs = 2000

/** Why a process could not be started. */
export type StartFailure = InvalidParams | LimitReached | NotAllowed | ProcessExists | SpawnFailed

/** Runs what a process lives on. */
type Fork = ReturnType<typeof Runtime.runFork<never>>

/** The processes of one session. */
export interface Supervisor {
  /** Starts a process, synchronously up to the fork. */
  readonly start: (
    params: StartParams
  ) => Effect.Effect<{ readonly pid: number; readonly confined: boolean }, StartFailure>
  /** A process by its id, as long as it is retained. */
  readonly find: (processId: ProcessId) => ManagedProcess | undefined
  /** Acts on a process, if there is one: in the order of the calls, but not before its start has come to its end. */
  readonly act: <A, E>(
    processId: ProcessId,
    use: (process: ManagedProcess | undefined) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E>
  /** All processes, in the order they were started. */
  readonly list: () => ReadonlyArray<ManagedProcess>
  /** Ends a tree, at once or gracefully; says whether the leader had not exited yet. */
  readonly terminate: (processId: ProcessId, mode: TerminateMode) => Effect.Effect<{ readonly running: boolean }>
  /** Ends all trees: SIGTERM, `graceMs` later SIGKILL; without grace SIGKILL at once. Bounded. Gives those that ran. */
  readonly end: (graceMs: number) => Effect.Effect<ReadonlyArray<ProcessInfo>>
}

/** Members of a request that contradict each other: one of them could not be carried out. */
const conflictOf = ({ size, tty, prepared, envPolicy, metadata }: StartParams): string | undefined => {
  if (size !== undefined && !tty) return "`size` needs `tty: true`: a process on pipes has no terminal"
  const resolved = Object.entries({ envPolicy, metadata }).find(([, value]) => value !== undefined)
  if (prepared === true && resolved !== undefined) {
    return `\`${resolved[0]}\` does not go with \`prepared: true\`: such a request is spawned exactly as it is, with \`env\` alone`
  }
  return undefined
}

/** Adds the identifiers that its client gave the process (current). These variables replace any of the same name. */
const withMetadata = (env: Env, metadata: StartParams["metadata"]): Env =>
  metadata === undefined
    ? env
    : {
        ...env,
        ...(metadata.threadId === undefined ? {} : { CODEX_THREAD_ID: metadata.threadId }),
        ...(metadata.toolCallId === undefined ? {} : { CODEX_TOOL_CALL_ID: metadata.toolCallId })
      }

/** No restart. That of a process which has no policy must not keep what it was started with. */
const never = () => false

/** What a process takes in memory besides its strings and its output, in bytes. */
const processBytes = 1024

/** What is kept of a start; all of it where there may be another one. */
const weightOfStart = ({ processId, argv, env, envPolicy, restart }: StartParams): number =>
  processBytes +
  weightOf(processId) +
  weightOfAll(argv) +
  (restart === undefined ? 0 : weightOfAll(env) + weightOfAll(envPolicy?.set ?? {}))

const make = (observer: ProcessEvents, runFork: Fork, scope: Scope.Scope, allowance: Allowance) =>
  Effect.gen(function* () {
    const spawner = yield* Spawner
    const events = ProcessMetrics.observe(observer)
    const buffers = yield* OutputBuffer
    const limits = yield* ProcessLimits
    const confiner = yield* Confiner.forSpawner(spawner)
    const skipGrace = yield* SkipGrace
    const processes = new Map<ProcessId, ManagedProcess>()
    const stuckStarts = { count: 0 }
    let open = 0
    let ending = false

    const fibers = yield* FiberGroup.make(scope)
    // Whoever forks goes on first. What is forked can be interrupted, whoever forks it, or the scope could not close.
    const forkIn = <A, E>(group: FiberGroup, effect: Effect.Effect<A, E>) => {
      const fiber = runFork(effect, { immediate: false })
      group.add(fiber)
      return fiber
    }
    /** Forks what belongs to the session. */
    const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.sync(() => forkIn(fibers, effect))
    /** Forks what belongs to one process. */
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

    /** Forgotten processes of whose trees something lives on; their scopes close with the session's, or once it has ended. */
    const remains = new Set<ManagedProcess>()

    /** Nobody can ask for a process any more. */
    const forget = (process: ManagedProcess, weight: number) =>
      Effect.suspend(() => {
        processes.delete(process.processId)
        allowance.give(weight)
        process.releaseOutput()
        remains.add(process)
        const ended = Array.from(remains).filter((other) => !other.hasRemains())
        for (const other of ended) remains.delete(other)
        return Effect.forEach(ended, (other) => Scope.close(other.scope, Exit.void), { discard: true })
      })

    // Added before the scopes of the processes, so that it runs when these have closed.
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        processes.clear()
        remains.clear()
        allowance.close()
      })
    )

    /** Starts the reports of a process; once it has closed, it is kept for some time and then forgotten. */
    const live = (process: ManagedProcess, weight: number) =>
      process.listen(() => {
        open--
        // The session's: what closes the scope of the process cannot be in it.
        forkIn(fibers, Effect.zipRight(Effect.sleep(limits.closedProcessRetentionMs), forget(process, weight)))
      })

    const spawn = (spec: ChildSpec): Effect.Effect<Child, SpawnError> =>
      Effect.suspend(() => {
        const startedAt = performance.now()
        return Effect.map(Effect.provideService(spawner.spawn(spec), StuckStarts, stuckStarts), (child) => {
          ProcessMetrics.spawnSeconds.unsafeUpdate((performance.now() - startedAt) / 1000, [])
          return child
        })
      }).pipe(
        Effect.withSpan("ProcessSupervisor.spawn", {
          captureStackTrace: false,
          attributes: { tty: spec.io._tag === "Pty" }
        })
      )

    const start = (params: StartParams) =>
      Effect.gen(function* () {
        const refusal = check(params)
        if (refusal !== undefined) return yield* refusal
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
          io: params.tty ? { _tag: "Pty", ...(params.size ?? defaultSize) } : { _tag: "Pipe", stdin: params.pipeStdin }
        }
        const process = yield* ManagedProcess.make(
          scope,
          {
            processId: params.processId,
            argv: params.argv,
            tty: params.tty,
            hasStdin: params.tty || params.pipeStdin,
            startedAtMs: yield* Clock.currentTimeMillis
          },
          output,
          events,
          limits.stdinQueueBytesPerProcess,
          policy?.allows ?? never,
          allowance
        )
        processes.set(params.processId, process)
        open++
        // Its place among the requests is taken by now: whether it can be confined may take a while to be known.
        const { child, confined, isConfined } = yield* Effect.gen(function* () {
          const confinement =
            params.sandbox === undefined ? undefined : yield* confiner.confine(params.sandbox, { env: spec.env })
          const confined = confinement === undefined ? spec : { ...spec, confinement }
          return { child: yield* spawn(confined), confined, isConfined: confinement !== undefined }
        }).pipe(
          Effect.onError(() =>
            Effect.suspend(() => {
              open--
              process.spawnFailed()
              return forget(process, weight)
            })
          )
        )
        if (isConfined) process.confine()
        process.spawned(child)
        // The session has ended while the spawn took its time: nobody is left to own the child.
        if (ending) {
          process.listen()
          process.signal("SIGKILL", "tree")
        }
        yield* fork(Effect.sync(() => live(process, weight)))
        if (policy !== undefined) yield* forkFor(process, ProcessFibers.keepUp(process, confined, policy, spawn))
        if (params.timeoutMs !== undefined) yield* forkFor(process, ProcessFibers.expire(process, params.timeoutMs))
        return { pid: child.pid, confined: isConfined }
      }).pipe(
        Effect.catchTag("SpawnError", ({ message }) =>
          Effect.zipRight(
            // Forked, so that the answer goes first.
            fork(Effect.sync(() => events.onFailed(params.processId, message))),
            new SpawnFailed({ message })
          )
        ),
        Effect.uninterruptible
      )

    const act: Supervisor["act"] = (processId, use) =>
      Immediate.make(() => {
        const process = processes.get(processId)
        if (process?.tag !== "Starting") return use(process)
        // Forked: it is carried out also if the client has gone when the start is over.
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
        const all = Array.from(processes.values())
        const running = all.filter(({ tag }) => tag === "Running" || tag === "Restarting")
        for (const process of all) process.finish()
        const allClosed = (waitMs: number) =>
          Effect.forEach(all, (process) => process.untilClosed(waitMs), { concurrency: "unbounded", discard: true })
        if (graceMs > 0) {
          for (const process of [...all, ...remains]) process.signal("SIGTERM", "tree")
          // Interruptible, or the one that comes later would be waited for.
          yield* Effect.raceFirst(Effect.interruptible(allClosed(graceMs)), Effect.interruptible(skipGrace))
        }
        for (const process of [...all, ...remains]) process.signal("SIGKILL", "tree")
        yield* allClosed(ProcessFibers.lateOutputMs)
        for (const process of all) process.abandonOutput()
        yield* allClosed(reapMs - ProcessFibers.lateOutputMs)
        return running.map((process) => process.info())
      })

    return {
      start,
      find: (processId) => processes.get(processId),
      act,
      list: () => Array.from(processes.values()),
      terminate,
      end
    } satisfies Supervisor
  })

/** Makes the supervisor of a session. */
export class ProcessSupervisor extends Context.Tag("exec-server/ProcessSupervisor")<
  ProcessSupervisor,
  {
    /** A supervisor whose processes live in the scope at hand and report to `events`. */
    readonly make: (events: ProcessEvents) => Effect.Effect<Supervisor, never, Scope.Scope>
  }
>() {
  /** Supervisors of whatever children a spawner starts. */
  static readonly layer: Layer.Layer<ProcessSupervisor, never, Spawner | OutputBuffer> = Layer.effect(
    ProcessSupervisor,
    Effect.gen(function* () {
      const { context, fiberRefs } = yield* Effect.runtime<Spawner | OutputBuffer>()
      yield* LateLimits.refuse("retained output", Context.get(context, OutputBuffer))
      const services = Context.pick(Spawner, OutputBuffer, ProcessLimits, Confiner.Confiner, SkipGrace)(context)
      const { runtimeFlags } = Runtime.defaultRuntime
      const runFork = Runtime.runFork(Runtime.make({ context: Context.empty(), runtimeFlags, fiberRefs }))
      const allowances = new Allowances(Context.get(services, ProcessLimits))
      return {
        make: (events) =>
          Effect.flatMap(Effect.scope, (scope) =>
            Effect.provide(make(events, runFork, scope, allowances.make()), services)
          )
      }
    })
  )
}
