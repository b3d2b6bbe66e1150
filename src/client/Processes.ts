/**
 * The processes of one client: starts them, dispatches their events, and catches up after a lost connection.
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
import { type Acknowledgements, EventLog } from "./EventLog.js"
import { type Numbered, ProcessEvent } from "./ProcessEvent.js"
import * as RemoteProcess from "./RemoteProcess.js"
import { needForStart } from "./ServerFeatures.js"

/** How long events wait for missing earlier ones before the client reads these from the server, in milliseconds. */
const gapMs = 1000

/** The deadline for terminating a process when its scope closes, in milliseconds. */
const releaseMs = 5000

/** Output is acknowledged in these parts of the window. */
const acksPerWindow = 4

type Encoded = typeof StartParams.Encoded

/** The fields of `process/start`. Defaults: a generated id, an empty environment and no terminal. */
export type StartOptions = Omit<Encoded, "processId" | "env" | "tty"> &
  Partial<Pick<Encoded, "processId" | "env" | "tty">>

/** The processes of one client. */
export interface Processes {
  /** Starts a process; it ends at the latest with the session. */
  readonly start: (options: StartOptions) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError>
  /** Starts a process; the scope kills its tree. */
  readonly startScoped: (options: StartOptions) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError, Scope.Scope>
  /** Attaches to a process of a resumed session: its events begin with the output that the server retains. */
  readonly attach: (processId: string) => Effect.Effect<RemoteProcess.RemoteProcess, ClientError>
}

/** A process, possibly still starting. */
interface Entry {
  readonly processId: ProcessId
  readonly log: EventLog
  started: boolean
}

const decodeParams = Schema.decodeUnknown(StartParams)

/** Whether this error means that the server certainly did not start the process. */
const isRefusal = (error: ClientError): boolean =>
  error._tag === "ServerError" || error._tag === "InvalidRequest" || error._tag === "TooManyRequests"

/** Why an answer about the events after a number cannot be true; undefined if it can. */
const contradictionOf = ({ chunks, nextSeq, exited, closed }: ReadResult, afterSeq: number): string | undefined => {
  if (nextSeq <= afterSeq) return `its event ${afterSeq} was heard, and the next one is said to be ${nextSeq}`
  const ahead = chunks.find(({ seq }) => seq >= nextSeq)
  if (ahead !== undefined) return `it has output ${ahead.seq}, and the next event is said to be ${nextSeq}`
  return (exited || closed) && nextSeq === 1 ? "it has ended, and is said to have no event" : undefined
}

const untrue = (processId: ProcessId, why: string) =>
  new ProtocolViolation({ detail: `process/read of process ${processId} cannot be true: ${why}` })

/** The most readings of one process in a row. An honest server's second one has no output. */
const maxReadings = 8

/**
 * Reads the retained output. Servers up to 0.143 include the end of a process in `nextSeq` only if the read returns no
 * output, so a process that has ended is read until there is none.
 */
const readRetained = (
  session: ClientSession,
  processId: ProcessId,
  afterSeq: number,
  readings = maxReadings
): Effect.Effect<ReadResult, ClientError> =>
  Effect.flatMap(
    session.call("process/read", { processId, afterSeq }),
    (read): Effect.Effect<ReadResult, ClientError> => {
      const contradiction = contradictionOf(read, afterSeq)
      if (contradiction !== undefined) return untrue(processId, contradiction)
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
    }
  )

/**
 * The dropped output. If the server does not report it, we assume that it keeps the newest output; `counted` says
 * whether it counts the dropped bytes.
 */
const gapOf = (read: ReadResult, counted: boolean): Gap | undefined => {
  const { gap, chunks, truncated, droppedBytes, nextSeq, closed, exited } = read
  if (gap !== undefined) return gap
  // The seqs of exit and close are not dropped.
  const next = nextSeq - (closed ? 2 : exited ? 1 : 0)
  const throughSeq = (chunks[0]?.seq ?? next) - 1
  if (counted ? !truncated : throughSeq < 1) return undefined
  // Without a count, assume at least one byte per chunk.
  return { fromSeq: 1, throughSeq, bytes: counted ? droppedBytes : throughSeq }
}

/** Why the events that an answer told of are not all there. Waiting for the others would take for ever. */
const unfinished = (log: EventLog, { nextSeq, closed }: ReadResult, heard: number | undefined): string | undefined => {
  if (log.isOver) return undefined
  if (closed) return `it is closed, and the event of that is said to be ${nextSeq - 1}`
  return heard !== undefined && log.last < heard
    ? `its event ${heard} was heard, and the next one is said to be ${nextSeq}`
    : undefined
}

/** The processes of a session. */
export const make = (session: ClientSession): Effect.Effect<Processes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { features } = session
    const entries = new Map<ProcessId, Entry>()
    const run = yield* FiberSet.makeRuntime<never>()

    const { outputWindow } = session.server.capabilities

    /** What a server with windows is told of one process. */
    const acksOf = (processId: ProcessId): Acknowledgements | undefined =>
      outputWindow === undefined
        ? undefined
        : {
            everyBytes: outputWindow / acksPerWindow,
            acknowledge: (seq) => session.acknowledgeOutput(processId, seq)
          }

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

    /** Reads missed events from the server. If the server has lost them too, terminates the process. */
    const catchUp = (entry: Entry): Effect.Effect<void> =>
      Effect.suspend(() => {
        const { processId, log } = entry
        // The server has sent this event before it answers.
        const heard = log.firstHeld
        return Effect.matchEffect(readRetained(session, processId, log.last), {
          onFailure: (error) => Effect.sync(() => fail(entry, error)),
          onSuccess: (read) => {
            if (!log.recover(read)) {
              fail(entry, new EventsLost({ processId, throughSeq: read.nextSeq - 1 }))
              return terminate(processId)
            }
            const why = unfinished(log, read, heard)
            if (why !== undefined) fail(entry, untrue(processId, why))
            else if (log.isOver) remove(entry)
            return Effect.void
          }
        })
      })

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
        const log = new EventLog(() => run(fillGap(entry)), mayRestart, acksOf(processId))
        const entry: Entry = { processId, log, started: false }
        // Register before the request: the first event may directly follow the response.
        entries.set(processId, entry)
        // In its own fiber: if the caller is interrupted, the result of the start must still be handled.
        const answer = run(
          Effect.tapBoth(session.call("process/start", params), {
            onFailure: (error) =>
              Effect.sync(() => {
                fail(entry, error)
                // In its own fiber: it waits for the connection, and the caller must not.
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

    /** The server's information on a process. The original has no list, so a process is found by reading its output. */
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
        // The list of our servers does not tell whether a process has a restart policy.
        const log = new EventLog(() => run(fillGap(entry)), features.extensions, acksOf(processId))
        const entry: Entry = { processId, log, started: false }
        // Register before the read: events that follow the response must not be lost.
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
        const why = unfinished(log, read, undefined)
        if (why !== undefined) {
          remove(entry)
          return yield* untrue(processId, why)
        }
        if (log.isOver) remove(entry)
        entry.started = true
        const isTerminal = tty ?? (first === undefined ? undefined : first.stream === "pty")
        return RemoteProcess.make(session, log, { processId, pid, tty: isTerminal, hasStdin: true })
      }).pipe(Effect.withSpan("ExecClient.attach"))

    return { start, startScoped, attach } satisfies Processes
  })
