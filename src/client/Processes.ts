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
import { type Gap, type ReadResult, StartParams } from "../protocol/ExecApi.js"
import { Code } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"
import { formatParseError } from "../protocol/Schemas.js"
import {
  type ClientError,
  DuplicateProcess,
  EventsLost,
  InvalidRequest,
  ProtocolViolation,
  ServerError
} from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import { EventLog } from "./EventLog.js"
import { type Numbered, ProcessEvent } from "./ProcessEvent.js"
import * as RemoteProcess from "./RemoteProcess.js"
import { needForStart } from "./ServerFeatures.js"

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
  /** A process that a session taken up again already has: its events begin with what the server still retains. */
  readonly attach: (processId: string) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError>
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

/** Readings of one process that may follow each other: the second one has no output, from a server that is honest. */
const maxReadings = 8

/**
 * Reads what the server retains. Servers up to 0.143 count the end of a process into `nextSeq` only where no output is
 * read with it: of a process that has ended they are asked until there is none.
 */
const readRetained = (
  session: ClientSession,
  processId: ProcessId,
  afterSeq: number,
  readings = maxReadings
): Effect.Effect<ReadResult, ClientError> =>
  Effect.flatMap(session.call("process/read", { processId, afterSeq }), (read) => {
    if (session.features.extensions || !read.exited || read.chunks.length === 0) return Effect.succeed(read)
    if (readings <= 1) {
      return new ProtocolViolation({
        detail: `process ${processId} has exited, and there is always more of its output`
      })
    }
    return Effect.map(readRetained(session, processId, read.nextSeq - 1, readings - 1), (rest) => ({
      ...rest,
      chunks: [...read.chunks, ...rest.chunks]
    }))
  })

/** The output that is gone. A server that does not tell it keeps the newest; `counted` says whether it counts the bytes. */
const gapOf = (read: ReadResult, counted: boolean): Gap | undefined => {
  const { gap, chunks, truncated, droppedBytes, nextSeq, closed, exited } = read
  if (gap !== undefined) return gap
  // The numbers that an exit and a close have are not gone.
  const next = nextSeq - (closed ? 2 : exited ? 1 : 0)
  const throughSeq = (chunks[0]?.seq ?? next) - 1
  if (counted ? !truncated : throughSeq < 1) return undefined
  // Of what is not counted, every piece had a byte at least.
  return { fromSeq: 1, throughSeq, bytes: counted ? droppedBytes : throughSeq }
}

/** The processes of a session. */
export const make = (session: ClientSession): Effect.Effect<Processes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { features } = session
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
      Effect.suspend(() => readRetained(session, entry.processId, entry.log.last)).pipe(
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
        Effect.zipRight(Effect.suspend(() => (entry.started && entry.log.hasGap ? catchUp(entry) : Effect.void))),
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
        const decoded = yield* decodeParams({ processId: randomUUID(), env: {}, tty: false, ...options }).pipe(
          Effect.mapError((error) => new InvalidRequest({ method: "process/start", detail: formatParseError(error) }))
        )
        yield* needForStart(features, decoded)
        const form = features.paths === "any" ? decoded.cwd.form : features.paths
        const params = { ...decoded, cwd: { ...decoded.cwd, form } }
        const { processId, tty } = params
        if (entries.has(processId)) return yield* new DuplicateProcess({ processId })
        const mayRestart = (params.restart?.policy ?? "never") !== "never"
        const log = new EventLog(() => run(fillGap(entry)), mayRestart)
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
        return RemoteProcess.make(session, log, { processId, pid, tty, hasStdin: tty || params.pipeStdin })
      }).pipe(Effect.withSpan("ExecClient.start"))

    const startScoped = (options: StartOptions) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.tap(restore(start(options)), ({ processId }) =>
          Effect.addFinalizer(() => Effect.timeoutOption(Effect.interruptible(terminate(processId)), releaseMs))
        )
      )

    /** What the server says of a process. The original lists none: it is known by its output, if at all. */
    const inspect = (id: string) =>
      Effect.gen(function* () {
        if (!features.extensions) return { processId: ProcessId.make(id), pid: null, tty: undefined }
        const { processes } = yield* session.call("process/list", {})
        const info = processes.find(({ processId }) => processId === id)
        return info ?? (yield* new ServerError({ code: Code.invalidRequest, reason: `unknown process id ${id}` }))
      })

    const attach = (id: string) =>
      Effect.gen(function* () {
        const { processId, pid, tty } = yield* inspect(id)
        if (entries.has(processId)) return yield* new DuplicateProcess({ processId })
        // Of ours nobody knows whether it has a restart policy.
        const log = new EventLog(() => run(fillGap(entry)), features.extensions)
        const entry: Entry = { processId, log, started: false }
        // Before it is read: what follows the answer must not be lost.
        entries.set(processId, entry)
        const read = yield* readRetained(session, processId, 0).pipe(
          Effect.onError(() => Effect.sync(() => remove(entry)))
        )
        const [first] = read.chunks
        const gap = gapOf(read, features.extensions)
        if (gap !== undefined) {
          const before = read.chunks.filter(({ seq }) => seq < gap.fromSeq)
          log.begin(
            gap.throughSeq,
            before.reduce((sum, { chunk }) => sum + chunk.length, gap.bytes)
          )
        }
        if (!log.recover({ ...read, truncated: false }) && features.extensions) {
          remove(entry)
          return yield* new EventsLost({ processId, throughSeq: read.nextSeq - 1 })
        }
        if (log.isOver) remove(entry)
        entry.started = true
        const isTerminal = tty ?? (first === undefined ? undefined : first.stream === "pty")
        return RemoteProcess.make(session, log, { processId, pid, tty: isTerminal, hasStdin: true })
      }).pipe(Effect.withSpan("ExecClient.attach"))

    return { start, startScoped, attach } satisfies Processes
  })
