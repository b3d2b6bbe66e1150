/**
 * The handlers of requests about recordings, and recordings that begin with a process.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { StartFailure } from "../process/ProcessSupervisor.js"
import type { Method, StartParams } from "../protocol/ExecApi.js"
import { type Failure, NotAllowed, UnknownRecording } from "../protocol/Failure.js"
import { RecordingApi } from "../protocol/RecordingApi.js"
import * as Access from "./Access.js"
import * as AuditLog from "./AuditLog.js"
import { initialized } from "./Handshake.js"
import { factsOf } from "./MethodCodecs.js"
import { using } from "./OptionalService.js"
import * as Reached from "./Reached.js"
import { type Recorded, RecordingStore, type Shape, unset } from "./RecordingStore.js"
import { everySession, type Session, type SessionRegistry } from "./SessionRegistry.js"

/** These handlers, for the layer of all handlers, and what other handlers need of recordings. */
export const make = (registry: Context.Tag.Service<SessionRegistry>) =>
  Effect.gen(function* () {
    const recordings = yield* RecordingStore
    const audit = yield* AuditLog.AuditLog
    const process = Reached.process(registry)
    if (recordings !== undefined) registry.include(recordings.part)
    const withRecordings = using(recordings, unset)

    /** Finds a recording. Fails if the grant does not permit the method on it. */
    const target = (method: Method, { recordingId }: { readonly recordingId: string }) =>
      Effect.flatMap(initialized, ({ session, grant }) =>
        withRecordings((recordings): Effect.Effect<Found, Failure> => {
          const recorded = recordings.find(recordingId)
          if (recorded === undefined) return new UnknownRecording({ recordingId })
          const about = recorded.info()
          const refusal =
            recorded.owner === session.id
              ? undefined
              : Access.refusalOfOther(grant, method, factsOf(method).access, about)
          return refusal ?? Effect.succeed({ recordings, recorded, who: { ...session.who, subject: grant.id } })
        })
      )

    /**
     * Starts a process, and records it from its start if the request says so. Its place among the recordings is taken
     * before, so that the process does not start if it cannot be recorded.
     */
    const recorded = (
      session: Session,
      { processId, record, env }: StartParams,
      start: ReturnType<Session["supervisor"]["start"]>
    ): Effect.Effect<Started & { readonly recordingId?: string }, StartFailure> =>
      record === undefined
        ? start
        : withRecordings((recordings) =>
            Effect.suspend(() =>
              Either.match(recordings.reserve(record), {
                onLeft: Effect.fail,
                onRight: ({ recordingId, begin, release }) =>
                  start.pipe(
                    Effect.tapErrorCause(() => Effect.sync(release)),
                    Effect.map((started) => {
                      const found = session.supervisor.find(processId)
                      if (found === undefined) release()
                      else {
                        // The process does not wait for the file.
                        begin(session, found, env["TERM"])
                        const { input = false } = record
                        audit.write(session.who, { event: "recording.start", recordingId, processId, input })
                      }
                      return { ...started, recordingId }
                    }),
                    Effect.uninterruptible
                  )
              })
            )
          )

    const handlers = RecordingApi.of({
      "recording/start": (params) =>
        process("recording/start", params, (found, { session, who }) =>
          withRecordings((recordings): Effect.Effect<Begun, Failure> => {
            const { processId, input = false } = params
            const current = recordings.of(found)?.info()
            if (current !== undefined) {
              return new NotAllowed({
                message: `process ${processId} is being recorded already, as ${current.recordingId}`
              })
            }
            return Either.match(recordings.reserve(params), {
              onLeft: Exit.fail,
              onRight: ({ recordingId, begin }) => {
                const begun = begin(session, found, undefined)
                audit.write(who, { event: "recording.start", recordingId, processId, input })
                return Effect.as(begun, { recordingId })
              }
            })
          })
        ),

      "recording/stop": (params) =>
        Effect.flatMap(target("recording/stop", params), ({ recorded, who }) => {
          audit.write(who, { event: "recording.stop", recordingId: params.recordingId })
          return Effect.map(recorded.stop, () => {
            const { bytes, durationMs } = recorded.info()
            return { bytes, durationMs }
          })
        }),

      "recording/list": ({ session: handle }) =>
        Effect.flatMap(initialized, ({ session, grant }) =>
          withRecordings((recordings): Effect.Effect<ListResult, Failure> => {
            const isAll = Access.reachOf(grant, "list") === "all"
            const refusal =
              handle === undefined || handle === everySession || handle === session.handle
                ? undefined
                : Access.refusalOfOther(grant, "recording/list", "list", { session: handle })
            if (refusal !== undefined) return refusal
            const infos = recordings.list().flatMap((recorded) => {
              const info = recorded.info()
              const isOwn = recorded.owner === session.id
              const isWanted = handle === everySession || (handle === undefined ? isOwn : info.session === handle)
              return isWanted && (isAll || isOwn) ? [info] : []
            })
            return Effect.succeed({ recordings: infos })
          })
        ),

      "recording/read": (params) =>
        Effect.flatMap(target("recording/read", params), ({ recordings, recorded }) =>
          recordings.read(recorded, params.offset, params.maxBytes ?? Number.POSITIVE_INFINITY)
        ),

      "recording/remove": (params) =>
        Effect.flatMap(target("recording/remove", params), ({ recordings, recorded, who }) => {
          audit.write(who, { event: "recording.remove", recordingId: params.recordingId })
          return Effect.as(recordings.remove(recorded), {})
        })
    })

    /** The id of the recording in progress of a process; null if there is none. */
    const idOf = (process: ManagedProcess): string | null => recordings?.of(process)?.info().recordingId ?? null

    return { handlers, recorded, idOf }
  })

type Started = Effect.Effect.Success<ReturnType<Session["supervisor"]["start"]>>

interface Begun {
  readonly recordingId: string
}

interface Found {
  readonly recordings: Shape
  readonly recorded: Recorded
  readonly who: AuditLog.Who
}

interface ListResult {
  readonly recordings: ReadonlyArray<ReturnType<Recorded["info"]>>
}
