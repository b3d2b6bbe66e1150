/**
 * Recordings that the server makes of what its processes print, as asciicast files.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ProcessId } from "../protocol/Ids.js"
import type { RecordingInfo, RecordOptions } from "../protocol/RecordingApi.js"
import type { Call } from "./Api.js"
import type { ClientError } from "./ClientError.js"

/** The bytes that are read at a time. */
const blockBytes = 262_144

/** The time between reads of a recording that goes on, in milliseconds. */
const followMs = 200

/**
 * The recordings of a server.
 *
 * @category models
 */
export interface Recordings {
  /** Begins to record a process, of the client's own session or of `session`. Gives the id of the recording. */
  readonly start: (
    processId: string,
    options?: RecordOptions & { readonly session?: string | undefined }
  ) => Effect.Effect<string, ClientError>
  /** Ends a recording. Gives the size of its file, and how long it took in milliseconds. */
  readonly stop: (
    recordingId: string
  ) => Effect.Effect<{ readonly bytes: number; readonly durationMs: number }, ClientError>
  /** The recordings of a session by its handle; without one, all visible ones. */
  readonly list: (session?: string) => Effect.Effect<ReadonlyArray<RecordingInfo>, ClientError>
  /** The file of a recording; with `follow`, until the recording has ended. */
  readonly content: (recordingId: string, options?: { readonly follow?: boolean }) => Stream.Stream<Buffer, ClientError>
  /** Ends a recording and removes its file. */
  readonly remove: (recordingId: string) => Effect.Effect<void, ClientError>
}

/**
 * The recordings that a client sees.
 *
 * @category constructors
 */
export const make = (ask: Call): Recordings => ({
  start: (processId, options = {}) =>
    Effect.map(
      ask("recording/start", { ...options, processId: ProcessId.make(processId) }),
      ({ recordingId }) => recordingId
    ),
  stop: (recordingId) => ask("recording/stop", { recordingId }),
  list: (session = "*") => Effect.map(ask("recording/list", { session }), ({ recordings }) => recordings),
  content: (recordingId, { follow = false } = {}) =>
    Stream.paginateChunkEffect(0, (offset) =>
      ask("recording/read", { recordingId, offset, maxBytes: blockBytes }).pipe(
        // A recording in progress has more to come.
        Effect.tap(({ chunk, running }) =>
          chunk.length === 0 && running && follow ? Effect.sleep(followMs) : Effect.void
        ),
        Effect.map(({ chunk, running }) => [
          chunk.length === 0 ? Chunk.empty<Buffer>() : Chunk.of(chunk),
          chunk.length > 0 || (running && follow) ? Option.some(offset + chunk.length) : Option.none()
        ])
      )
    ),
  remove: (recordingId) => Effect.asVoid(ask("recording/remove", { recordingId }))
})
