/**
 * The processes of one client: starts them, tells each of its events, and brings all up to date after a lost connection.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { StartParams } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import { formatParseError } from "../protocol/Schemas.js"
import { type ClientError, DuplicateProcess, EventsLost, InvalidRequest } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import { EventLog } from "./EventLog.js"
import { type Numbered, ProcessEvent } from "./ProcessEvent.js"
import * as RemoteProcess from "./RemoteProcess.js"

/** How long events may wait for earlier ones before the server is asked for these, in milliseconds. */
const gapMs = 1000

/** How long a process may take to be terminated when its scope closes, in milliseconds. */
const releaseMs = 5000

type Encoded = typeof StartParams.Encoded

/** What to start: the members of `process/start`, with a chosen id, no environment, and no terminal by default. */
export type StartOptions = Omit<Encoded, "processId" | "env" | "tty"> &
  Partial<Pick<Encoded, "processId" | "env" | "tty">>

/** The processes of one client. */
export interface Processes {
  /** Starts a process; it ends with the session, if not before. */
  readonly start: (options: StartOptions) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError>
  /** Starts a process; its tree is killed when the scope closes. */
  readonly startScoped: (options: StartOptions) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError, Scope.Scope>
}

/** A process, or one that is being started. */
interface Entry {
  readonly processId: ProcessId
  readonly log: EventLog
  started: boolean
}

const decodeParams = Schema.decodeUnknown(StartParams)

/** Whether the server has certainly not started what this answers. */
const isRefusal = (error: ClientError): boolean =>
  error._tag === "ServerError" || error._tag === "InvalidRequest" || error._tag === "TooManyRequests"

/** The processes of a session. */
export const make = (session: ClientSession): Effect.Effect<Processes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const entries = new Map<ProcessId, Entry>()
    const run = yield* FiberSet.makeRuntime<never>()

    const remove = (entry: Entry) => {
      if (entries.get(entry.processId) === entry) entries.delete(entry.processId)
    }

    const fail = (entry: Entry, error: ClientError) => {
      remove(entry)
      entry.log.fail(error)
    }

    const accept = (processId: ProcessId, event: Numbered) => {
      const entry = entries.get(processId)
      if (entry === undefined) return
      entry.log.accept(event)
      if (entry.log.isOver) remove(entry)
    }

    const terminate = (processId: ProcessId) => Effect.ignore(session.call("process/terminate", { processId }))

    /** Asks the server for what was not heard. What even the server has lost ends the process. */
    const catchUp = (entry: Entry): Effect.Effect<void> =>
      Effect.suspend(() => session.call("process/read", { processId: entry.processId, afterSeq: entry.log.last })).pipe(
        Effect.matchEffect({
          onFailure: (error) => Effect.sync(() => fail(entry, error)),
          onSuccess: (read) => {
            if (entry.log.recover(read)) {
              if (entry.log.isOver) remove(entry)
              return Effect.void
            }
            fail(entry, new EventsLost({ processId: entry.processId, throughSeq: read.nextSeq - 1 }))
            return terminate(entry.processId)
          }
        })
      )

    const fillGap = (entry: Entry): Effect.Effect<void> =>
      Effect.sleep(gapMs).pipe(
        Effect.zipRight(Effect.suspend(() => (entry.log.hasGap ? catchUp(entry) : Effect.void))),
        Effect.repeat({ while: () => entry.log.hasGap })
      )

    session.subscribe("process/output", ({ processId, ...event }) => accept(processId, ProcessEvent.Output(event)))
    session.subscribe("process/restarted", ({ processId, ...event }) =>
      accept(processId, ProcessEvent.Restarted(event))
    )
    session.subscribe("process/exited", ({ processId, timedOut = false, ...event }) =>
      accept(processId, ProcessEvent.Exited({ ...event, timedOut }))
    )
    session.subscribe("process/closed", ({ processId, ...event }) => accept(processId, ProcessEvent.Closed(event)))
    session.watch((state) => {
      for (const entry of Array.from(entries.values())) {
        if (state._tag === "Ended") fail(entry, state.error)
        else if (state._tag === "Connected" && entry.started) run(catchUp(entry))
      }
    })

    const start = (options: StartOptions) =>
      Effect.gen(function* () {
        const params = yield* decodeParams({ processId: randomUUID(), env: {}, tty: false, ...options }).pipe(
          Effect.mapError((error) => new InvalidRequest({ method: "process/start", detail: formatParseError(error) }))
        )
        const { processId } = params
        if (entries.has(processId)) return yield* new DuplicateProcess({ processId })
        const log = new EventLog(() => run(fillGap(entry)))
        const entry: Entry = { processId, log, started: false }
        // Before it is asked for: its first event may come right behind the answer.
        entries.set(processId, entry)
        // Not in the caller's fiber: whoever gives up waiting leaves nobody to hear what has become of it.
        const answer = run(
          Effect.tapBoth(session.call("process/start", params), {
            onFailure: (error) =>
              Effect.sync(() => {
                fail(entry, error)
                // In a fiber of its own: it waits for the connection, and the caller does not.
                if (!isRefusal(error)) run(terminate(processId))
              }),
            onSuccess: () =>
              Effect.sync(() => {
                entry.started = true
              })
          })
        )
        const { pid } = yield* Fiber.join(answer).pipe(
          Effect.onInterrupt(() => Effect.sync(() => run(Effect.zipRight(Fiber.await(answer), terminate(processId)))))
        )
        return RemoteProcess.make(session, log, { processId, pid, hasStdin: params.tty || params.pipeStdin })
      }).pipe(Effect.withSpan("ExecClient.start"))

    const startScoped = (options: StartOptions) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.tap(restore(start(options)), ({ processId }) =>
          Effect.addFinalizer(() => Effect.timeoutOption(Effect.interruptible(terminate(processId)), releaseMs))
        )
      )

    return { start, startScoped } satisfies Processes
  })
