/**
 * The sessions of a server, as far as the token of the client permits: a client sees its own, viewers and operators see
 * all of them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { GrantInfo, ProcessInfo, SessionInfo } from "../protocol/ExecApi.js"
import type { ClientError } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import * as Watch from "./Watch.js"
import type { WatchEvent } from "./WatchEvent.js"

/**
 * The sessions of a server.
 *
 * @category models
 */
export interface Sessions {
  /** What the token of the client permits, and until when. */
  readonly grant: Effect.Effect<GrantInfo, ClientError>
  /** The limits of the server by the names of its settings; null for none. */
  readonly limits: Effect.Effect<Readonly<Record<string, number | null>>, ClientError>
  /** The visible sessions, oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<SessionInfo>, ClientError>
  /** The processes of a session by its handle; without one, those of all visible sessions. */
  readonly processes: (session?: string) => Effect.Effect<ReadonlyArray<ProcessInfo>, ClientError>
  /** Ends a session by its handle: kills its processes and closes its connection. Gives how many processes were running. */
  readonly end: (session: string) => Effect.Effect<number, ClientError>
  /** The screen, the output and the events of a process, also of one in another session, until the attachment ends. */
  readonly watch: (options: Watch.Options) => Stream.Stream<WatchEvent, ClientError>
  /** The same for one that also sets the size of the terminal; the scope detaches. */
  readonly attach: (options: Watch.Options) => Effect.Effect<Watch.Watch, ClientError, Scope.Scope>
}

/**
 * The sessions that a client sees.
 *
 * @category constructors
 */
export const make = (session: ClientSession): Sessions => {
  const { ask } = session
  const attach = (options: Watch.Options) => Watch.make(session, options)
  return {
    grant: ask("session/grant", {}),
    limits: Effect.map(ask("environment/limits", {}), ({ limits }) => limits),
    list: Effect.map(ask("session/list", {}), ({ sessions }) => sessions),
    processes: (session = "*") => Effect.map(ask("process/list", { session }), ({ processes }) => processes),
    end: (session) => Effect.map(ask("session/end", { session }), ({ ended }) => ended),
    watch: (options) => Stream.unwrapScoped(Effect.map(attach(options), ({ events }) => events)),
    attach
  }
}
