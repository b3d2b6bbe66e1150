/**
 * A reader of a process's events, and the streams built on it.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { OutputStream, ReadResult } from "../protocol/ExecApi.js"
import { type ClientError, OutputMissed } from "./ClientError.js"
import type { Cursor, EventLog } from "./EventLog.js"
import type { ProcessEvent } from "./ProcessEvent.js"

/** The sources of events: the client's log, and beyond it the server's retention. */
export interface Source {
  readonly processId: string
  readonly log: EventLog
  /** The output that the server retains after a number. */
  readonly read: (afterSeq: number) => Effect.Effect<ReadResult, ClientError>
}

/**
 * Waits for the next events after a cursor and passes them to `use`; fails with none at the end. The cursor moves in
 * the same turn as `use` runs, so an interruption loses no event.
 */
export const next = <A>(
  source: Source,
  cursor: Cursor,
  use: (events: ReadonlyArray<ProcessEvent>) => A
): Effect.Effect<A, Option.Option<ClientError>> =>
  Effect.suspend(() => {
    const { log, read } = source
    const step = log.take(cursor)
    switch (step._tag) {
      case "Events":
        return Effect.succeed(use(step.events))
      case "Done":
        return Effect.fail(Option.none())
      case "Failed":
        return Effect.fail(Option.some(step.error))
      case "Wait":
        return Effect.zipRight(
          log.until(() => log.last > cursor.seq || log.isOver),
          next(source, cursor, use)
        )
      case "Behind":
        return read(cursor.seq).pipe(
          Effect.map(({ chunks }) => chunks),
          // The server does not retain it either, or cannot be reached: report it as missed.
          Effect.orElseSucceed((): ReadResult["chunks"] => []),
          Effect.map((chunks) => use(log.catchUp(cursor, chunks)))
        )
    }
  })

/** All events from the first. */
export const events = (source: Source): Stream.Stream<ProcessEvent, ClientError> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const cursor: Cursor = { seq: 0, bytes: 0 }
      yield* Effect.acquireRelease(
        Effect.sync(() => source.log.attach(cursor)),
        () => Effect.sync(() => source.log.detach(cursor))
      )
      return Stream.repeatEffectChunkOption(next(source, cursor, Chunk.fromIterable))
    })
  )

/** The output from its first byte: of one stream, or of all in arrival order. */
export const output = (source: Source, of?: OutputStream): Stream.Stream<Buffer, ClientError | OutputMissed> =>
  Stream.filterMapEffect(events(source), (event) => {
    if (event._tag === "Missed" && event.bytes > 0) {
      const { events, bytes } = event
      return Option.some(Effect.fail(new OutputMissed({ processId: source.processId, events, bytes })))
    }
    return event._tag === "Output" && (of === undefined || event.stream === of)
      ? Option.some(Effect.succeed(event.chunk))
      : Option.none()
  })
