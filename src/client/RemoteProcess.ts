/**
 * A process on the server: its events, its input and its exit.
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
import * as Signals from "../protocol/Signals.js"
import type { Result } from "./Api.js"
import { type ClientError, type OutputMissed, ProtocolViolation, WriteRefused } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import type { Cursor, EventLog } from "./EventLog.js"
import * as EventReader from "./EventReader.js"
import { type Collected, HeadTail } from "./HeadTail.js"
import type { Exit, ProcessEvent } from "./ProcessEvent.js"
import { need } from "./ServerFeatures.js"

/** The most bytes of input in one request. */
const pieceBytes = 262144

/** The default `maxBytes` of `communicate`, per stream. */
const communicateBytes = 16777216

/**
 * The result of `communicate`. A terminal's output is in `terminal` only.
 *
 * @category models
 */
export interface Communicated {
  readonly exit: Exit
  readonly stdout: Collected
  readonly stderr: Collected
  readonly terminal: Collected
  /** Bytes of output of all streams that were dropped before they could be read. */
  readonly missedBytes: number
}

/**
 * The result of one window of `collectFor`.
 *
 * @category models
 */
export interface Yielded {
  /** The output of all streams since the last window, in arrival order. */
  readonly output: Collected
  /** Bytes that were dropped before they could be read. */
  readonly missedBytes: number
  /** How the process ended, if it has. */
  readonly exit: Exit | undefined
  /** Whether all output has been returned. */
  readonly closed: boolean
}

/**
 * The state of a process.
 *
 * @category models
 */
export interface Standing {
  readonly exit: Exit | undefined
  readonly closed: boolean
}

/**
 * A process on the server.
 *
 * @category models
 */
export interface RemoteProcess {
  readonly processId: ProcessId
  /** The OS pid on the server's machine, for information; null if the server does not send it. */
  readonly pid: number | null
  /** All events from the first, in order, for any number of readers; fails if the connection ends for good. */
  readonly events: Stream.Stream<ProcessEvent, ClientError>
  /** All output from the first byte, in arrival order; fails if any of it was dropped. */
  readonly output: Stream.Stream<Buffer, ClientError | OutputMissed>
  /** The output of one stream, likewise; a terminal's is in `terminal`. */
  readonly stdout: Stream.Stream<Buffer, ClientError | OutputMissed>
  readonly stderr: Stream.Stream<Buffer, ClientError | OutputMissed>
  readonly terminal: Stream.Stream<Buffer, ClientError | OutputMissed>
  /** Waits for the exit; output may still follow. */
  readonly exit: Effect.Effect<Exit, ClientError>
  /** Waits for the exit and the end of all output. */
  readonly closed: Effect.Effect<Exit, ClientError>
  /** Waits until it has exited (or closed, with `until`), or until `duration` has passed; returns its state. */
  readonly wait: (options?: {
    readonly until?: "exited" | "closed"
    readonly duration?: Duration.DurationInput
  }) => Effect.Effect<Standing, ClientError>
  /** Queues input in call order; every byte is delivered once, even across a lost connection. */
  readonly write: (input: string | Uint8Array) => Effect.Effect<void, ClientError | WriteRefused>
  /**
   * Closes stdin after earlier writes; a terminal gets its EOF character. The original cannot close the stdin of a
   * process without a terminal.
   */
  readonly closeStdin: Effect.Effect<void, ClientError>
  readonly resize: (rows: number, cols: number) => Effect.Effect<void, ClientError>
  /**
   * Signals the process group, the leader or the tree: `"interrupt"` or any POSIX name, such as `"SIGTERM"`; another
   * name fails with `InvalidRequest`. The original can interrupt and kill groups, or only kill;
   * anything else fails with `Unsupported`.
   */
  readonly signal: (
    signal: Signals.SignalWord,
    target?: "group" | "leader" | "tree"
  ) => Effect.Effect<void, ClientError>
  /** Ends the whole tree; `running` says whether the leader was still running. */
  readonly terminate: (mode?: TerminateMode) => Effect.Effect<Result<"process/terminate">, ClientError>
  /**
   * Writes all input, closes stdin, waits for the exit, and returns the output: at most `maxBytes` (16 MiB) per stream.
   */
  readonly communicate: (options?: {
    readonly input?: string | Uint8Array
    readonly maxBytes?: number
  }) => Effect.Effect<Communicated, ClientError | WriteRefused>
  /** Collects output for `duration`, or until the process closes; at most `maxBytes`. */
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

/** The client's information on a process. */
interface Described {
  readonly processId: ProcessId
  readonly pid: number | null
  /** Whether it has a terminal; undefined if the server does not say. */
  readonly tty: boolean | undefined
  readonly hasStdin: boolean
}

const newlines = new Set([0x0a, 0x0d, 0x04])

/**
 * Makes a process from its id and its event log.
 *
 * @category constructors
 */
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
  // The server deduplicates writes by id, across all clients of a process: make ids unique to this client.
  const writer = randomUUID().slice(0, 8)
  let writes = 0
  /** Whether the terminal is at the start of an input line. */
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

  /** The original cannot close stdin, but at a terminal the EOF character does it. */
  const closeStdin: Effect.Effect<void, ClientError> = Effect.suspend(() => {
    if (features.extensions) return Effect.asVoid(session.call("process/closeStdin", { processId }))
    if (!hasStdin) return Effect.void
    if (tty !== true) {
      const advice = "start it without `pipeStdin`, or with `tty`"
      return need(features, false, "end the input of a program without a terminal", advice)
    }
    // In the middle of a line, the first EOF only submits the line.
    return Effect.catchTag(write(atLineStart ? "\u0004" : "\u0004\u0004"), "WriteRefused", () => Effect.void)
  })

  /** Passes events to `take` until the end, each once. */
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
    // If stdin cannot be closed, fail before anything is written.
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

  // Shared by all windows: each begins where the last one ended.
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
          // Return what was read before the failure now, and the failure next time.
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
    signal: (word, target) => {
      const signal = Signals.ofWord(word)
      // The original has `process/terminate` instead of this signal.
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
