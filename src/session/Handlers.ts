/**
 * The handlers of all requests. A handler that acts on a process does so in its first, synchronous part, so that
 * requests take effect in the order of arrival. Only a handler that waits lets others overtake it.
 *
 * @since 0.1.0
 */
import type * as Rpc from "@effect/rpc/Rpc"
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { FileSystem } from "../filesystem/FileSystem.js"
import type { HttpRunner } from "../http/HttpRunner.js"
import * as Immediate from "../internal/Immediate.js"
import * as ProcessLimits from "../process/ProcessLimits.js"
import * as ProcessMetrics from "../process/ProcessMetrics.js"
import { ExecApi, type WriteResult } from "../protocol/ExecApi.js"
import {
  type Failure,
  InvalidParams,
  NotATerminal,
  ProcessStarting,
  StdinClosed,
  UnknownProcess
} from "../protocol/Failure.js"
import { clip } from "../protocol/Schemas.js"
import * as Unenforced from "../protocol/Unenforced.js"
import * as AuditLog from "./AuditLog.js"
import * as DiscoveryHandlers from "./DiscoveryHandlers.js"
import * as FileSystemHandlers from "./FileSystemHandlers.js"
import { CurrentHandshake, guard, initialized } from "./Handshake.js"
import { HostInfo } from "./HostInfo.js"
import * as HttpHandlers from "./HttpHandlers.js"
import { factsOf, requests } from "./MethodCodecs.js"
import * as Reached from "./Reached.js"
import * as RecordingHandlers from "./RecordingHandlers.js"
import * as SessionLimits from "./SessionLimits.js"
import { everySession, type Session, SessionRegistry } from "./SessionRegistry.js"
import * as ShareHandlers from "./ShareHandlers.js"
import * as Switches from "./Switches.js"
import * as UsageHandlers from "./UsageHandlers.js"
import * as WatchHandlers from "./WatchHandlers.js"

/**
 * The handlers, as a service.
 *
 * @category models
 */
export type Handlers = Rpc.ToHandler<RpcGroup.Rpcs<typeof ExecApi>>

/** A handler as `toLayer` puts it into the context, untyped. None here is an `Rpc.Wrapper`. */
type Handler = (payload: unknown, options: unknown) => Effect.Effect<unknown, Failure>

/**
 * Makes handlers check the handshake and the switches, and run without the context they were made in. They have taken their services
 * from it already, and copying it costs each small request a tenth (`node scratch/bench.mjs --only requests`).
 */
const bind = (handlers: Context.Context<Handlers>, { refusal }: Switches.Switches): Context.Context<Handlers> => {
  const entries = Array.from(requests.values(), ({ _tag, key }) => {
    const entry: { readonly handler: Handler } = handlers.unsafeMap.get(key)
    const facts = factsOf(_tag)
    const refused = refusal(facts.family)
    const served: Handler = refused === undefined ? entry.handler : () => Exit.fail(refused)
    const handler: Handler = (payload, options) => guard(_tag, facts, () => served(payload, options))
    return [key, { ...entry, handler, context: Context.empty() }] as const
  })
  return Context.unsafeMake(new Map(entries))
}

/** Those of these limits that are numbers, or not set. What provides them may have other members. */
const numbersOf = <L extends object>(limits: L, defaults: L): Readonly<Record<string, number | null>> =>
  Object.fromEntries(
    Object.keys(defaults).flatMap((name) => {
      const { [name]: value = null } = limits as { readonly [name: string]: unknown }
      return value === null || typeof value === "number" ? [[name, value] as const] : []
    })
  )

/** The handlers before they are bound. */
const unbound = ExecApi.toHandlersContext(
  Effect.gen(function* () {
    const registry = yield* SessionRegistry
    const host = yield* HostInfo
    const switches = yield* Switches.make
    const files = yield* FileSystemHandlers.make
    const http = yield* HttpHandlers.make
    const discovery = yield* DiscoveryHandlers.make
    const usage = yield* UsageHandlers.make(registry)
    const recordings = yield* RecordingHandlers.make(registry)
    const shares = yield* ShareHandlers.make(registry)
    const audit = yield* AuditLog.AuditLog
    const { handlers: watch, watching } = yield* WatchHandlers.make

    const describe = () => switches.describe(host.describe())

    const target = Reached.find(registry)
    const listed = Reached.listed(registry)

    const process = Reached.process(registry)

    const limits = {
      ...numbersOf(yield* SessionLimits.SessionLimits, SessionLimits.defaults),
      ...numbersOf(yield* ProcessLimits.ProcessLimits, ProcessLimits.defaults)
    }

    const processesOf = ({ handle, supervisor }: Session) =>
      supervisor.list().map((found) => ({
        ...found.info(),
        session: handle,
        ...watching.describe(found),
        recording: recordings.idOf(found),
        ...usage.describe(found)
      }))

    return ExecApi.of({
      ...http,
      ...files,
      ...discovery,
      ...watch,
      ...usage.handlers,
      ...recordings.handlers,
      ...shares,

      initialize: (params) => {
        const { clientName, resumeSessionId, takeover = false, sessionTtlMs, name } = params
        if (takeover && resumeSessionId == null) {
          return new InvalidParams({ message: "`takeover` needs `resumeSessionId`" })
        }
        const options = { clientName, name, ttlMs: sessionTtlMs === null ? Number.POSITIVE_INFINITY : sessionTtlMs }
        const open: Effect.Effect<Session, Failure> =
          resumeSessionId == null
            ? registry.create(options)
            : registry.resume(resumeSessionId, { ...options, takeover })
        const opened = Effect.flatMap(CurrentHandshake, (handshake) => handshake.initialize(params, open))
        return Effect.map(opened, ({ session, capabilities }) => ({
          protocolVersion: "exec-server.v0",
          sessionId: session.id,
          environmentInfo: describe(),
          capabilities
        }))
      },

      "environment/info": () => Immediate.sync(describe),

      "environment/limits": () => Exit.succeed({ limits }),

      "environment/status": () => Exit.succeed({ status: "ready" }),

      "process/start": (params) =>
        Effect.flatMap(initialized, ({ session }) => {
          const { who, supervisor } = session
          const { processId, argv, tty, timeoutMs } = params
          const asked: AuditLog.Entry = {
            event: "process.start",
            processId,
            program: clip(argv[0] ?? ""),
            tty,
            timeoutMs
          }
          const started = AuditLog.require(audit, who, asked).pipe(
            Effect.zipRight(
              Effect.tapError(
                Unenforced.refusal(params, "everything") ??
                  recordings.recorded(session, params, watching.starting(session, params, supervisor.start(params))),
                ({ _tag }) =>
                  Effect.sync(() => audit.write(who, { event: "process.refused", processId, failure: _tag }))
              )
            ),
            Effect.map(({ pid, confined, ...more }) => {
              audit.write(who, { event: "process.started", processId, pid })
              return { processId, sandboxType: confined ? ("linuxSeccomp" as const) : ("none" as const), pid, ...more }
            })
          )
          return supervisor.carryOut(started)
        }),

      "process/read": (params) =>
        process("process/read", params, (found) => {
          const { afterSeq = 0, maxBytes = Number.POSITIVE_INFINITY, waitMs = 0 } = params
          return found.read(afterSeq, maxBytes, waitMs)
        }),

      "process/write": (params) =>
        Immediate.flatMap(initialized, ({ session: own, dialect }) => {
          const { processId, chunk } = params
          const status = Immediate.flatMap(target("process/write", params), ({ session }) => {
            // Each client chooses its own ids, so those of another client may collide with the owner's.
            const writeId =
              session === own || params.writeId === undefined ? params.writeId : `${own.handle} ${params.writeId}`
            return session.supervisor.act(
              processId,
              (found): Effect.Effect<WriteResult["status"], Failure> =>
                found === undefined ? Exit.succeed("unknownProcess") : found.write(chunk, writeId)
            )
          })
          return Immediate.flatMap(status, (status): Effect.Effect<WriteResult, Failure> => {
            if (status === "accepted") ProcessMetrics.inputBytes.unsafeUpdate(chunk.length, [])
            if (status === "accepted" || dialect === "session") {
              return Exit.succeed({ accepted: status === "accepted", status })
            }
            if (status === "unknownProcess") return Exit.fail(new UnknownProcess({ processId }))
            return Exit.fail(
              status === "starting" ? new ProcessStarting({ processId }) : new StdinClosed({ processId })
            )
          })
        }),

      "process/closeStdin": (params) =>
        process("process/closeStdin", params, (found) => {
          found.closeStdin()
          return Exit.succeed({})
        }),

      "process/resize": (params) =>
        process("process/resize", params, (found) => {
          if (!found.description.tty) return Exit.fail(new NotATerminal({ processId: params.processId }))
          found.resize(params.rows, params.cols)
          return Exit.succeed({})
        }),

      "process/signal": (params) =>
        Immediate.flatMap(target("process/signal", params), ({ session: { supervisor }, who }) => {
          const { processId, signal, target = "group" } = params
          audit.write(who, { event: "process.signal", processId, signal, target })
          return supervisor.act(processId, (found) => {
            found?.signal(signal, target)
            return Exit.succeed({})
          })
        }),

      "process/terminate": (params) =>
        Effect.flatMap(target("process/terminate", params), ({ session: { supervisor }, who }) => {
          const { processId, mode = { type: "force" } } = params
          audit.write(who, { event: "process.terminate", processId, mode: mode.type })
          return supervisor.terminate(processId, mode)
        }),

      "process/wait": (params) =>
        process("process/wait", params, (found) =>
          found.wait(params.until ?? "exited", params.waitMs ?? Number.POSITIVE_INFINITY)
        ),

      "process/snapshot": (params) => process("process/snapshot", params, (found) => Exit.succeed(found.snapshot())),

      "process/list": ({ session }) =>
        session === everySession
          ? Immediate.map(listed, (sessions) => ({ processes: sessions().flatMap(processesOf) }))
          : Immediate.map(target("process/list", { session }), ({ session }) => ({ processes: processesOf(session) })),

      "session/grant": () =>
        Immediate.map(initialized, ({ session, grant: { id, role = "client", scope, expiresAtMs = null } }) => ({
          subject: id,
          role,
          session: session.handle,
          scope: scope === undefined ? null : { session: scope.session, processId: scope.processId ?? null },
          expiresAtMs
        })),

      "session/list": () =>
        Immediate.flatMap(initialized, ({ session: own }) =>
          Immediate.map(listed, (sessions) => ({
            sessions: sessions().map((session) => session.info(session === own))
          }))
        ),

      "session/end": (params) =>
        Effect.flatMap(target("session/end", params), ({ session, who }) => {
          audit.write(who, { event: "session.end", session: params.session })
          return Effect.map(registry.endOne(session), (ended) => ({ ended: ended.length }))
        })
    })
  })
)

/**
 * The handlers of all connections. `CurrentHandshake` identifies the connection of a request.
 *
 * @category layers
 */
export const layer: Layer.Layer<Handlers, never, SessionRegistry | FileSystem | HttpRunner> = Layer.scopedContext(
  Effect.flatMap(Switches.make, (switches) => Effect.map(unbound, (handlers) => bind(handlers, switches)))
)
