/**
 * Ends the tree of a process: it is asked to, and killed if it does not.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { RemoteProcess } from "../client/RemoteProcess.js"

/** How long it may take to end after SIGTERM, in milliseconds. */
const graceMs = 2000

/** How long until its end is known after `endTree`, in milliseconds. */
export const endMs = graceMs + 1500

/** Asks the tree of a process to end, and kills it later. Servers that cannot ask kill it at once. */
export const endTree = (process: Pick<RemoteProcess, "terminate">): Effect.Effect<void> =>
  process.terminate({ type: "graceful", timeoutMs: graceMs }).pipe(
    Effect.catchTag("Unsupported", () => process.terminate()),
    Effect.ignore
  )
