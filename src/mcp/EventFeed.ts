/**
 * Events for any number of readers. Each has a bounded buffer: a slow reader misses something, is told how much, and
 * holds up nothing.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { CommandSession } from "./CommandSession.js"
import type { ExecCommandEnd, ExecEvent, TerminalInteraction } from "./ExecEvent.js"
import type { Typed } from "./Typing.js"

/** The most bytes and events that wait for a reader. */
const maxBytes = 1048576
const maxEvents = 4096

/** The most bytes of output in one event. */
const maxDeltaBytes = 65536

/** The most characters of input in an event, and bytes of all output in the last one. */
const maxStdinChars = 4096
const wholeBytes = 32_000

/** The command that an event is about. */
export interface About {
  readonly sessionId: number
  readonly callId: string | null
}

/** Any event but those of output, which are merged. */
type Single = Exclude<ExecEvent, { readonly _tag: "ExecCommandOutputDelta" | "EventsMissed" }>

/** Output that waits: the first `length` bytes of a growing memory. */
interface Delta {
  readonly about: About
  readonly missedBytes: number
  memory: Buffer
  length: number
}

type Item = Delta | Single

const isSingle = (item: Item): item is Single => "_tag" in item

/** The bytes of texts in an event, about. */
const sizeOf = (item: Item): number => {
  if (!isSingle(item)) return item.length
  switch (item._tag) {
    case "ExecCommandBegin":
      return item.cmd.length + item.workdir.length
    case "TerminalInteraction":
      return item.stdin.length
    case "ExecCommandEnd":
      return item.output.head.length + item.output.tail.length
  }
}

const eventOf = (item: Item): ExecEvent =>
  isSingle(item)
    ? item
    : {
        _tag: "ExecCommandOutputDelta",
        ...item.about,
        chunk: item.memory.subarray(0, item.length),
        missedBytes: item.missedBytes
      }

/** The events that wait for one reader. */
class Waiting {
  private items: Array<Item> = []
  private bytes = 0
  private droppedEvents = 0
  private droppedBytes = 0
  /** Bytes of output that were left out since the last event of a command. */
  private readonly missed = new Map<number, number>()
  private readonly news = Effect.unsafeMakeLatch(false)
  private isOver = false

  print(about: About, chunk: Buffer, lostBytes: number): void {
    const missedBytes = (this.missed.get(about.sessionId) ?? 0) + lostBytes
    if (this.bytes + chunk.length > maxBytes) return void this.missed.set(about.sessionId, missedBytes + chunk.length)
    this.missed.delete(about.sessionId)
    this.bytes += chunk.length
    const last = this.items.at(-1)
    if (
      missedBytes === 0 &&
      last !== undefined &&
      !isSingle(last) &&
      last.about.sessionId === about.sessionId &&
      last.length + chunk.length <= maxDeltaBytes
    ) {
      if (last.length + chunk.length > last.memory.length) {
        const larger = Buffer.allocUnsafe(Math.min(maxDeltaBytes, 2 * (last.length + chunk.length)))
        last.memory.copy(larger, 0, 0, last.length)
        last.memory = larger
      }
      chunk.copy(last.memory, last.length)
      last.length += chunk.length
    } else this.add({ about, missedBytes, memory: Buffer.from(chunk), length: chunk.length })
  }

  push(event: Single): void {
    // The end comes after all output, also after what was left out.
    const missedBytes = this.missed.get(event.sessionId)
    if (event._tag === "ExecCommandEnd" && missedBytes !== undefined) {
      this.missed.delete(event.sessionId)
      const { sessionId, callId } = event
      this.add({ about: { sessionId, callId }, missedBytes, memory: Buffer.alloc(0), length: 0 })
    }
    const size = sizeOf(event)
    while (this.items.length > 0 && this.bytes + size > maxBytes) this.drop()
    this.bytes += size
    this.add(event)
  }

  /** No more events come. */
  end(): void {
    this.isOver = true
    this.news.unsafeOpen()
  }

  /** Waits for events and takes all of them; fails at the end. */
  readonly take: Effect.Effect<Chunk.Chunk<ExecEvent>, Option.Option<never>> = Effect.suspend(() => {
    if (this.items.length === 0) {
      return this.isOver ? Effect.fail(Option.none()) : Effect.zipRight(this.news.await, this.take)
    }
    const events = this.items.map(eventOf)
    if (this.droppedEvents > 0) {
      events.unshift({ _tag: "EventsMissed", events: this.droppedEvents, bytes: this.droppedBytes })
    }
    this.items = []
    this.bytes = 0
    this.droppedEvents = 0
    this.droppedBytes = 0
    if (!this.isOver) this.news.unsafeClose()
    return Effect.succeed(Chunk.unsafeFromArray(events))
  })

  private add(item: Item): void {
    if (this.items.length >= maxEvents) this.drop()
    this.items.push(item)
    this.news.unsafeOpen()
  }

  /** Drops the oldest event. */
  private drop(): void {
    const oldest = this.items.shift()
    if (oldest === undefined) return
    this.bytes -= sizeOf(oldest)
    this.droppedEvents++
    if (!isSingle(oldest)) this.droppedBytes += oldest.length + oldest.missedBytes
  }
}

/** Events for any number of readers. */
export class EventFeed {
  private readonly readers = new Set<Waiting>()
  private isOver = false

  /** Tells of output of a command, after `lostBytes` that never arrived. */
  print(about: About, chunk: Buffer, lostBytes = 0): void {
    for (const reader of this.readers) reader.print(about, chunk, lostBytes)
  }

  /** Tells of anything else. `event` is made only if somebody reads. */
  tell(event: () => Single): void {
    if (this.readers.size === 0) return
    const told = event()
    for (const reader of this.readers) reader.push(told)
  }

  /** Ends all streams. */
  end(): void {
    this.isOver = true
    for (const reader of this.readers) reader.end()
  }

  /** The events from now on. */
  readonly events: Stream.Stream<ExecEvent> = Stream.unwrapScoped(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => {
          const reader = new Waiting()
          this.readers.add(reader)
          if (this.isOver) reader.end()
          return reader
        }),
        (reader) => Effect.sync(() => this.readers.delete(reader))
      ),
      ({ take }) => Stream.repeatEffectChunkOption(take)
    )
  )
}

/** What was typed into a command. */
export const interactionOf = (
  { id: sessionId, callId }: CommandSession,
  { chars = "", keys = [], closeStdin: closesStdin = false }: Typed
): typeof TerminalInteraction.Type => {
  const stdin = chars.slice(0, maxStdinChars)
  const omittedChars = chars.length - stdin.length
  return { _tag: "TerminalInteraction", sessionId, callId, stdin, omittedChars, keys, closesStdin }
}

/** How a command ended. */
export const endOf = (session: CommandSession): typeof ExecCommandEnd.Type => {
  const { id: sessionId, callId, state, elapsedMs: durationMs } = session
  const { head, tail, omitted, lines, bytes } = session.whole(wholeBytes)
  const ended = state._tag === "Ended" ? state : undefined
  return {
    _tag: "ExecCommandEnd",
    sessionId,
    callId,
    exitCode: ended?.exit.exitCode ?? null,
    signal: ended?.exit.signal ?? null,
    timedOut: ended?.exit.timedOut === true,
    holdsOutput: ended?.holdsOutput === true,
    lost: state._tag === "Lost" ? state.reason : null,
    durationMs,
    output: { head, tail, omittedLines: omitted?.lines ?? 0, omittedBytes: omitted?.bytes ?? 0, lines, bytes }
  }
}
