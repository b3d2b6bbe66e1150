/**
 * HTTP responses that take time: how long their clients may take to receive them, and their tokens let them.
 *
 * @since 0.1.0
 */
import type { ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import * as Grant from "../session/Grant.js"

/** How long a client may take none of a response, in milliseconds. */
const idleMs = 30_000

/** Waits until an event says that the client has taken what was written; fails if it is gone, or takes nothing. */
export const taken = (event: "drain" | "finish", response: ServerResponse): Effect.Effect<void, "gone"> =>
  Effect.async<void, "gone">((resume) => {
    if (response.destroyed) return resume(Effect.fail("gone"))
    const stop = () => void response.off(event, onTaken).off("close", onClose)
    const onTaken = () => {
      stop()
      resume(Effect.void)
    }
    const onClose = () => {
      stop()
      resume(Effect.fail("gone"))
    }
    response.once(event, onTaken).once("close", onClose)
    if (event === "finish") response.end()
    return Effect.sync(stop)
  }).pipe(Effect.timeoutFail({ duration: idleMs, onTimeout: () => "gone" as const }))

/** Fails when the token expires. */
export const expiry = ({ expiresAtMs }: Grant.Grant): Effect.Effect<never, "gone"> =>
  expiresAtMs === undefined ? Effect.never : Effect.zipRight(Grant.expired(expiresAtMs), Effect.fail("gone" as const))
