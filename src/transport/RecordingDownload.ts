/**
 * Answers a download of a recording. Loaded with the first one.
 *
 * @since 0.1.0
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import * as Access from "../session/Access.js"
import type * as Grant from "../session/Grant.js"
import { factsOf } from "../session/MethodCodecs.js"
import type { Recorded, Shape } from "../session/RecordingStore.js"
import { headers, text } from "./ConsoleFiles.js"
import { expiry, taken } from "./ResponseFlow.js"

/** How much is read at a time, in bytes. */
const chunkBytes = 65_536

const method = "recording/read"

const send = (recordings: Shape, recorded: Recorded, isHead: boolean, response: ServerResponse) => {
  // What is appended from now on is left out: what is there consists of whole lines.
  const { recordingId, bytes: total } = recorded.info()
  response.writeHead(200, {
    ...headers,
    "content-type": "application/x-asciicast",
    "content-disposition": `attachment; filename="${recordingId}.cast"`,
    "content-length": total,
    "cache-control": "no-store"
  })
  return Effect.iterate(0, {
    while: (offset) => offset < total && !isHead,
    body: (offset) =>
      Effect.flatMap(recordings.read(recorded, offset, Math.min(chunkBytes, total - offset)), ({ chunk }) => {
        if (chunk.length === 0 || response.destroyed) return Effect.fail("gone" as const)
        const next = offset + chunk.length
        return response.write(chunk) ? Effect.succeed(next) : Effect.as(taken("drain", response), next)
      })
  }).pipe(Effect.zipRight(taken("finish", response)))
}

/** Whether it is of a session of the client's own. */
const isOwn = ({ subject }: Recorded, { id, scope }: Grant.Grant): boolean => scope === undefined && subject === id

/** Answers GET and HEAD for a recording with its file, or says why not. Never fails. */
export const answer = (
  recordings: Shape | undefined,
  recordingId: string,
  grant: Grant.Grant,
  request: IncomingMessage,
  response: ServerResponse
): Effect.Effect<unknown> =>
  Effect.suspend(() => {
    const recorded = recordings?.find(recordingId)
    if (recordings === undefined || recorded === undefined) {
      return Effect.sync(() => text(response, 404, "there is no such recording\n"))
    }
    const refusal = isOwn(recorded, grant)
      ? undefined
      : Access.refusalOfOther(grant, method, factsOf(method).access, recorded.info())
    if (refusal !== undefined) return Effect.sync(() => text(response, 403, `${refusal.message}\n`))
    return send(recordings, recorded, request.method === "HEAD", response).pipe(
      Effect.raceFirst(expiry(grant)),
      // The length was announced, so the client notices.
      Effect.catchAllCause(() => Effect.sync(() => response.destroy()))
    )
  })
