/**
 * The sessions of a server, as far as the token of the client permits: a client sees its own, viewers and operators see
 * all of them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ProcessInfo, SessionInfo } from "../protocol/ExecApi.js"
import type { Call } from "./Api.js"
import type { ClientError } from "./ClientError.js"

/**
 * The sessions of a server.
 *
 * @category models
 */
export interface Sessions {
  /** The visible sessions, oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<SessionInfo>, ClientError>
  /** The processes of a session by its handle; without one, those of all visible sessions. */
  readonly processes: (session?: string) => Effect.Effect<ReadonlyArray<ProcessInfo>, ClientError>
  /** Ends a session by its handle: kills its processes and closes its connection. Gives how many processes were running. */
  readonly end: (session: string) => Effect.Effect<number, ClientError>
}

/**
 * The sessions that a client sees.
 *
 * @category constructors
 */
export const make = (ask: Call): Sessions => ({
  list: Effect.map(ask("session/list", {}), ({ sessions }) => sessions),
  processes: (session = "*") => Effect.map(ask("process/list", { session }), ({ processes }) => processes),
  end: (session) => Effect.map(ask("session/end", { session }), ({ ended }) => ended)
})
