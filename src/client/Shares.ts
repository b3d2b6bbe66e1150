/**
 * Shares of a server: tokens for one process each, for others to watch or to use it.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ProcessId } from "../protocol/Ids.js"
import type { ShareInfo } from "../protocol/ShareApi.js"
import type { Call, Result } from "./Api.js"
import type { ClientError } from "./ClientError.js"

/**
 * What a share permits.
 *
 * @category models
 */
export interface Options {
  /** The handle of the session of the process; the client's own by default. */
  readonly session?: string | undefined
  /** `viewer` (the default) reads the process, `operator` also uses it. */
  readonly role?: "viewer" | "operator" | undefined
  readonly expiresIn: Duration.DurationInput
  /** The most connections at a time. */
  readonly maxViewers?: number | undefined
  readonly label?: string | undefined
}

/**
 * The shares of a server.
 *
 * @category models
 */
export interface Shares {
  /** Makes a token for one process. */
  readonly create: (processId: string, options: Options) => Effect.Effect<Result<"share/create">, ClientError>
  /** The shares that the token permits to see. */
  readonly list: Effect.Effect<ReadonlyArray<ShareInfo>, ClientError>
  /** Ends a share, and closes its connections. */
  readonly revoke: (shareId: string) => Effect.Effect<void, ClientError>
}

/**
 * The shares that a client sees.
 *
 * @category constructors
 */
export const make = (ask: Call): Shares => ({
  create: (processId, { session, role = "viewer", expiresIn, maxViewers, label }) =>
    ask("share/create", {
      session,
      processId: ProcessId.make(processId),
      role,
      expiresInMs: Math.ceil(Duration.toMillis(expiresIn)),
      maxViewers,
      label
    }),
  list: Effect.map(ask("share/list", {}), ({ shares }) => shares),
  revoke: (shareId) => Effect.asVoid(ask("share/revoke", { shareId }))
})
