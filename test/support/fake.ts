/** Shared by tests with fake children: a supervisor with recorded events, sessions, and clients of a whole server. */
import { Buffer } from "node:buffer"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { HttpRunner } from "../../src/http/HttpRunner.js"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import { OutputBuffer } from "../../src/process/OutputBuffer.js"
import type { ProcessEvents } from "../../src/process/ProcessEvents.js"
import { type Limits, ProcessLimits } from "../../src/process/ProcessLimits.js"
import { ProcessSupervisor, type Supervisor } from "../../src/process/ProcessSupervisor.js"
import { StartParams } from "../../src/protocol/ExecApi.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import { FakeSpawner, type Options, type Plan } from "../../src/testing/FakeSpawner.js"
import * as Memory from "../../src/transport/Memory.js"
import { registryLayer } from "./sessions.js"
import { startParams } from "./TestClient.js"

/**
 * Completes in a later turn of the event loop, when everything that was ready to run has run, fibers included. Reads no
 * clock.
 */
export const settle: Effect.Effect<void> = Effect.async<void>((resume) => {
  setImmediate(() => setImmediate(() => resume(Effect.void)))
})

export const id = (text: string): ProcessId => ProcessId.make(text)

/** Parameters of `process/start` as the handler gets them. */
export const params = (processId: string, more: object = {}): StartParams =>
  Schema.decodeUnknownSync(StartParams)(startParams(processId, ["program"], more))

/** One recorded event, short enough to compare: `["output", seq, stream, text]`, `["exited", seq, ...]`, ... */
export type Recorded = readonly [kind: string, ...rest: ReadonlyArray<unknown>]

/** Records the events of all processes, by id. */
export const recorder = () => {
  const all = new Map<string, Array<Recorded>>()
  const add = (processId: string, event: Recorded) => {
    const list = all.get(processId)
    if (list === undefined) all.set(processId, [event])
    else list.push(event)
  }
  const events: ProcessEvents = {
    onStarted: (process, pid) => add(process.processId, ["started", pid]),
    onFailed: (processId, message) => add(processId, ["failed", message]),
    onOutput: (process, seq, stream, bytes) => add(process.processId, ["output", seq, stream, bytes.toString()]),
    onRestarted: (process, seq, attempt, pid) => add(process.processId, ["restarted", seq, attempt, pid]),
    onExited: (process, seq, { exitCode, signal }, timedOut) =>
      add(process.processId, ["exited", seq, exitCode, signal, timedOut]),
    onClosed: (process, seq) => add(process.processId, ["closed", seq])
  }
  /** All events except `started`, which is always the first. */
  const of = (processId: string): ReadonlyArray<Recorded> =>
    (all.get(processId) ?? []).filter(([kind]) => kind !== "started")
  return { events, of, all: (processId: string): ReadonlyArray<Recorded> => all.get(processId) ?? [] }
}

/** The default limits, with some replaced. */
export const limits = (changed: Partial<Limits>): Effect.Effect<Limits> =>
  Effect.map(ProcessLimits, (current) => ({ ...current, ...changed }))

/** Supervisors of fake children. */
export const supervisorLayer = (plan: Plan = {}, changed: Partial<Limits> = {}, options: Options = {}) =>
  Layer.unwrapEffect(
    Effect.map(limits(changed), (all) =>
      ProcessSupervisor.layer.pipe(
        Layer.provide(OutputBuffer.layer),
        Layer.provideMerge(FakeSpawner.layerOf(plan, options)),
        Layer.provide(Layer.succeed(ProcessLimits, all))
      )
    )
  )

/** The parts that a test of a supervisor needs. */
export interface Bench {
  readonly supervisor: Supervisor
  readonly fake: FakeSpawner["Type"]
  readonly of: (processId: string) => ReadonlyArray<Recorded>
  readonly all: (processId: string) => ReadonlyArray<Recorded>
  /** Starts a process and waits until its reports have begun. */
  readonly start: (processId: string, more?: object) => Effect.Effect<Running>
}

/** A process from both sides. */
export interface Running {
  readonly process: ManagedProcess
  readonly child: FakeSpawner["Type"]["children"][number]
}

/** A supervisor in the test's scope. */
export const bench: Effect.Effect<Bench, never, ProcessSupervisor | FakeSpawner | Scope.Scope> = Effect.gen(
  function* () {
    const fake = yield* FakeSpawner
    const { make } = yield* ProcessSupervisor
    const { events, of, all } = recorder()
    const supervisor = yield* make(events, yield* Effect.scope)
    const start = (processId: string, more: object = {}) =>
      Effect.gen(function* () {
        const index = fake.children.length
        yield* supervisor.start(params(processId, more))
        yield* settle
        const process = supervisor.find(id(processId))
        const child = fake.children[index]
        assert.isDefined(process)
        assert.isDefined(child)
        if (process === undefined || child === undefined) return yield* Effect.dieMessage("the process is missing")
        assert.isTrue(child.listening)
        return { process, child }
      }).pipe(Effect.orDie)
    return { supervisor, fake, of, all, start }
  }
)

/** The failure of an effect that must fail. */
export const failureOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<E, never, R> =>
  Effect.flatMap(Effect.either(effect), (result) =>
    Either.isLeft(result) ? Effect.succeed(result.left) : Effect.dieMessage("it succeeded")
  )

/** A whole in-process server with fake children. It ends without grace, so that no test has to adjust its clock. */
export const serverLayer = (plan: Plan = {}, changed: Partial<Limits> = {}, http = HttpRunner.layer) =>
  Layer.unwrapEffect(
    Effect.map(limits({ shutdownGracePeriodMs: 0, ...changed }), (all) =>
      ExecServer.layerServe.pipe(
        Layer.provideMerge(Layer.merge(registryLayer(plan, { http }), Memory.layer)),
        Layer.provide(Layer.succeed(ProcessLimits, all))
      )
    )
  )

export const bytes = (text: string): Buffer => Buffer.from(text)

/** That many bytes. */
export const fill = (length: number, byte = 0x78): Buffer => Buffer.alloc(length, byte)
