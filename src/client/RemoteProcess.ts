/**
 * A process on the other side: its events, its input, and its end.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { TerminateMode } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { Params, Result } from "./Api.js"
import { type ClientError, type OutputMissed, ProtocolViolation, WriteRefused } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import type { Cursor, EventLog } from "./EventLog.js"
import * as EventReader from "./EventReader.js"
import { type Collected, HeadTail } from "./HeadTail.js"
import type { Exit, ProcessEvent } from "./ProcessEvent.js"
import { need } from "./ServerFeatures.js"

/** Bytes of input that one request carries. */
const pieceBytes = 262144

/** Bytes of each stream that `communicate` keeps without `maxBytes`. */
const communicateBytes = 16777216

/** What `communicate` gives: a terminal's output is in `terminal` alone. */
export interface Communicated {
  readonly exit: Exit
  readonly stdout: Collected
  readonly stderr: Collected
  readonly terminal: Collected
  /** Bytes of output, of whichever stream, that were gone before they could be read. */
  readonly missedBytes: number
}

/** What a yield window saw. */
export interface Yielded {
  /** Output of all streams since the last window, in the order it arrived. */
  readonly output: Collected
  /** Bytes that were gone before they could be read. */
  readonly missedBytes: number
  /** How the process ended, if it has. */
  readonly exit: Exit | undefined
  /** Whether this was the last of its output. */
  readonly closed: boolean
}

/** How a process stands. */
export interface Standing {
  readonly exit: Exit | undefined
  readonly closed: boolean
}

/** A process on the other side. */
export interface RemoteProcess {
  readonly processId: ProcessId
  /** The server's OS pid, for information; null where the server does not tell. */
  readonly pid: number | null
  /** All events from the first, in order, for any number of readers; fails when the process is out of reach. */
  readonly events: Stream.Stream<ProcessEvent, ClientError>
  /** All output from the first byte, in the order it arrived; fails rather than leave anything out. */
  readonly output: Stream.Stream<Buffer, ClientError | OutputMissed>
  /** The same of one stream alone; a terminal's is in `terminal`. */
  readonly stdout: Stream.Stream<Buffer, ClientError | OutputMissed>
  readonly stderr: Stream.Stream<Buffer, ClientError | OutputMissed>
  readonly terminal: Stream.Stream<Buffer, ClientError | OutputMissed>
  /** How it ended, as soon as it has; output may still come. */
  readonly exit: Effect.Effect<Exit, ClientError>
  /** How it ended, as soon as every byte of output is there as well. */
  readonly closed: Effect.Effect<Exit, ClientError>
  /** How it stands once it has exited, or closed with `until`; or when `duration` has passed. */
  readonly wait: (options?: {
    readonly until?: "exited" | "closed"
    readonly duration?: Duration.DurationInput
  }) => Effect.Effect<Standing, ClientError>
  /** Queues input, in the order of the calls, each byte once, also across a lost connection. */
  readonly write: (input: string | Uint8Array) => Effect.Effect<void, ClientError | WriteRefused>
  /**
   * Ends the input after what was written; a terminal gets its EOF character. The original cannot end the input of a
   * program that has no terminal.
   */
  readonly closeStdin: Effect.Effect<void, ClientError>
  readonly resize: (rows: number, cols: number) => Effect.Effect<void, ClientError>
  /**
   * Sends a signal to the process group, the leader or the tree. The original interrupts and kills groups, or only kills;
   * whatever else is asked of it fails with `Unsupported`.
   */
  readonly signal: (
    signal: Params<"process/signal">["signal"],
    target?: "group" | "leader" | "tree"
  ) => Effect.Effect<void, ClientError>
  /** Ends the whole tree; `running` says whether the leader had not exited yet. */
  readonly terminate: (mode?: TerminateMode) => Effect.Effect<Result<"process/terminate">, ClientError>
  /** Writes all input, ends it, waits for the end, and gives all output, of each stream at most `maxBytes` (16 MiB). */
  readonly communicate: (options?: {
    readonly input?: string | Uint8Array
    readonly maxBytes?: number
  }) => Effect.Effect<Communicated, ClientError | WriteRefused>
  /** The output of the next `duration`, or until the end if that is earlier; at most `maxBytes` of it. */
  readonly collectFor: (options: {
    readonly duration: Duration.DurationInput
    readonly maxBytes: number
  }) => Effect.Effect<Yielded, ClientError>
}

const toBuffer = (input: string | Uint8Array): Buffer =>
  typeof input === "string" ? Buffer.from(input) : Buffer.from(input.buffer, input.byteOffset, input.byteLength)

const piecesOf = (bytes: Buffer): ReadonlyArray<Buffer> =>
  Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, i) =>
    bytes.subarray(i * pieceBytes, (i + 1) * pieceBytes)
  )

/** What a client knows of a process. */
interface Described {
  readonly processId: ProcessId
  readonly pid: number | null
  /** Whether it has a terminal; undefined where the server does not tell. */
  readonly tty: boolean | undefined
  readonly hasStdin: boolean
}

const newlines = new Set([0x0a, 0x0d, 0x04])

/** The process with this id, whose events `log` gets. */
export const make = (
  session: ClientSession,
  log: EventLog,
  { processId, pid, tty, hasStdin }: Described
): RemoteProcess => {
  const { features } = session
  const source: EventReader.Source = {
    processId,
    log,
    read: (afterSeq) => session.call("process/read", { processId, afterSeq })
  }
  // The server remembers the ids of a process's writes: those of another client, before or beside this one, are others.
  const writer = randomUUID().slice(0, 8)
  let writes = 0
  /** Whether what was written ends a line, as far as a terminal is concerned. */
  let atLineStart = true

  const standing = (): Standing => ({ exit: log.exit, closed: log.isClosed })

  const ready = (until: "exited" | "closed") => () => log.isOver || (until === "exited" && log.exit !== undefined)

  const arrived = (until: "exited" | "closed"): Effect.Effect<Exit, ClientError> =>
    Effect.zipRight(
      log.until(ready(until)),
      Effect.suspend((): Effect.Effect<Exit, ClientError> => {
        const { exit } = log
        if (exit !== undefined && (until === "exited" || log.isClosed)) return Effect.succeed(exit)
        return log.error ?? new ProtocolViolation({ detail: `process ${processId} was closed without an exit` })
      })
    )

  const wait: RemoteProcess["wait"] = ({ until = "exited", duration } = {}) =>
    duration === undefined
      ? Effect.map(arrived(until), standing)
      : Effect.map(Effect.timeoutOption(arrived(until), duration), standing)

  const write = (input: string | Uint8Array) =>
    Effect.suspend(() => {
      const bytes = toBuffer(input)
      const last = bytes.at(-1)
      if (last !== undefined) atLineStart = newlines.has(last)
      return session.callAll(
        "process/write",
        piecesOf(bytes).map((chunk) => ({ processId, chunk, writeId: `${writer}-${++writes}` }))
      )
    }).pipe(
      Effect.flatMap((results) => {
        const refused = results.find(({ status }) => status !== "accepted")
        return refused === undefined || refused.status === "accepted"
          ? Effect.void
          : new WriteRefused({ processId, status: refused.status })
      })
    )

  /** The original ends no input; what it can do is to type the character that does so at a terminal. */
  const closeStdin: Effect.Effect<void, ClientError> = Effect.suspend(() => {
    if (features.extensions) return Effect.asVoid(session.call("process/closeStdin", { processId }))
    if (!hasStdin) return Effect.void
    if (tty !== true) {
      const advice = "start it without `pipeStdin`, or with `tty`"
      return need(features, false, "end the input of a program without a terminal", advice)
    }
    // In the middle of a line the first one only ends the line.
    return Effect.catchTag(write(atLineStart ? "\u0004" : "\u0004\u0004"), "WriteRefused", () => Effect.void)
  })

  /** Hands events to `take` until the end; whatever was handed over is not handed over again. */
  const drain = (cursor: Cursor, take: (event: ProcessEvent) => void): Effect.Effect<void, ClientError> =>
    EventReader.next(source, cursor, (events) => events.forEach(take)).pipe(
      Effect.forever,
      Effect.catchAll(Option.match({ onNone: () => Effect.void, onSome: Effect.fail }))
    )

  const attached = <A, E>(cursor: Cursor, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.acquireUseRelease(
      Effect.sync(() => log.attach(cursor)),
      () => effect,
      () => Effect.sync(() => log.detach(cursor))
    )

  const feed = (input: string | Uint8Array | undefined): Effect.Effect<void, ClientError | WriteRefused> => {
    const bytes = toBuffer(input ?? "")
    if (bytes.length === 0) return closeStdin
    if (!hasStdin) return new WriteRefused({ processId, status: "stdinClosed" })
    // Fails, where there will be no end, before anything is written.
    if (!features.extensions && tty !== true) return closeStdin
    return Effect.forEach(piecesOf(bytes), write, { discard: true }).pipe(
      // A program need not read all its input.
      Effect.catchTag("WriteRefused", () => Effect.void),
      Effect.zipRight(closeStdin)
    )
  }

  const communicate: RemoteProcess["communicate"] = ({ input, maxBytes = communicateBytes } = {}) =>
    Effect.suspend(() => {
      const kept = { stdout: new HeadTail(maxBytes), stderr: new HeadTail(maxBytes), pty: new HeadTail(maxBytes) }
      let missedBytes = 0
      const cursor: Cursor = { seq: 0, bytes: 0 }
      const collected = drain(cursor, (event) => {
        if (event._tag === "Output") kept[event.stream].push(event.chunk)
        else if (event._tag === "Missed") missedBytes += event.bytes
      })
      return attached(cursor, Effect.all([collected, feed(input)], { concurrency: 2, discard: true })).pipe(
        Effect.zipRight(arrived("closed")),
        Effect.map((exit) => ({
          exit,
          stdout: kept.stdout.collected(),
          stderr: kept.stderr.collected(),
          terminal: kept.pty.collected(),
          missedBytes
        }))
      )
    })

  // One for all windows: each begins where the last one ended.
  const window: Cursor = { seq: 0, bytes: 0 }
  const oneWindow = Effect.unsafeMakeSemaphore(1).withPermits(1)

  const collectFor: RemoteProcess["collectFor"] = ({ duration, maxBytes }) =>
    oneWindow(
      Effect.suspend(() => {
        const kept = new HeadTail(maxBytes)
        let missedBytes = 0
        const collected = drain(window, (event) => {
          if (event._tag === "Output") kept.push(event.chunk)
          else if (event._tag === "Missed") missedBytes += event.bytes
        })
        return attached(window, Effect.timeoutOption(collected, duration)).pipe(
          // What was read before the failure is not read again: it is given now, and the failure next time.
          Effect.catchAll((error) => (kept.isEmpty ? Effect.fail(error) : Effect.void)),
          Effect.map(() => {
            const closed = log.isClosed && window.seq === log.last
            return { output: kept.collected(), missedBytes, exit: log.exit, closed }
          })
        )
      })
    )

  return {
    processId,
    pid,
    events: EventReader.events(source),
    output: EventReader.output(source),
    stdout: EventReader.output(source, "stdout"),
    stderr: EventReader.output(source, "stderr"),
    terminal: EventReader.output(source, "pty"),
    exit: arrived("exited"),
    closed: arrived("closed"),
    wait,
    write,
    closeStdin,
    resize: (rows, cols) =>
      Effect.zipRight(
        need(features, features.extensions, "change the size of a terminal"),
        Effect.asVoid(session.call("process/resize", { processId, rows, cols }))
      ),
    signal: (signal, target) => {
      // Its end is what the original has in place of this signal.
      if (features.signals !== "any" && signal === "SIGKILL" && (target ?? "group") === "group") {
        return Effect.asVoid(session.call("process/terminate", { processId }))
      }
      const served = features.signals === "interrupt" && signal === "SIGINT" && (target ?? "group") === "group"
      const able = features.signals === "none" ? "it can only kill" : "it can only interrupt a group, and kill"
      const params = { processId, signal, ...(target === undefined ? {} : { target }) }
      return Effect.zipRight(
        need(features, served || features.signals === "any", `send ${signal} to ${target ?? "a group"}`, able),
        Effect.asVoid(session.ask("process/signal", params))
      )
    },
    terminate: (mode) =>
      Effect.zipRight(
        need(
          features,
          features.extensions || mode?.type !== "graceful",
          "ask a process to end",
          "terminate it at once"
        ),
        session.call("process/terminate", { processId, ...(mode === undefined ? {} : { mode }) })
      ),
    communicate,
    collectFor
  }
}
