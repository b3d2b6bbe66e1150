/**
 * The connection of a request, as handlers see it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { NotificationJson } from "../protocol/ExecNotifications.js"
import type { SocketOwner } from "../spawn/SocketOwner.js"
import { Attachments } from "./Attachments.js"
import type { Grant } from "./Grant.js"
import type { Ending } from "./Peer.js"
import { ResponseBudget } from "./ResponseBudget.js"

/** Sends a notification that is not an event of the session's processes. */
export type Notify = <M extends "fs/missingChanged" | "usage/sample">(method: M, params: NotificationJson<M>) => void

/** One connection. */
export interface Connection {
  /** The name of its peer. */
  readonly peer: string
  /** The subject of the connection. */
  readonly grant: Grant
  /** A name for the key of its peer; see `Peer.key`. */
  readonly key?: string | undefined
  /** The process at its other end, if that is local. */
  readonly owner?: SocketOwner | undefined
  readonly responseBudget: ResponseBudget
  /** The most bytes that one answer can hold in base64. */
  readonly maxContentBytes: number
  /** Sends a notification to the client; does nothing once the connection has ended. */
  readonly notify: Notify
  /** What the connection watches. */
  readonly attachments: () => Attachments
  /** Whether a session can outlive the connection. */
  readonly resumable: boolean
  /** How long its session retains closed processes, if not as long as the limits say. */
  readonly retentionMs?: number | undefined
  /** Whether its session outlives it, as far as is known. */
  readonly keepsSession: () => boolean
  /**
   * Ends the connection if its client does not respond any more, so that its session can be resumed. Returns whether the
   * session was released. Bounded by a few seconds.
   */
  readonly endIfGone: Effect.Effect<boolean>
  /** Ends the connection so that another one can take over its session. Returns whether it was released. Bounded. */
  readonly yieldSession: Effect.Effect<boolean>
  /** Starts to end the connection. */
  readonly end: (ending: Ending) => void
  /** Adds a finalizer. It runs when the connection has ended and none of its requests is in flight. */
  readonly onEnd: (effect: Effect.Effect<void>) => void
  /** Says how many things of a kind end with the connection, such as `open files`, for the answer to an upgrade. */
  readonly holds: (what: string, count: () => number) => void
}

/** No connection any more, of a peer of this name; nothing is congested, and nothing ends. */
export const lost = (peer: string, subject: string): Connection => ({
  peer,
  grant: { id: subject },
  responseBudget: new ResponseBudget(() => false),
  maxContentBytes: Number.POSITIVE_INFINITY,
  notify: () => {},
  attachments: () => new Attachments({ output: () => {}, notify: () => {}, isCongested: () => false }),
  resumable: true,
  keepsSession: () => true,
  endIfGone: Effect.succeed(false),
  yieldSession: Effect.succeed(false),
  end: () => {},
  onEnd: () => {},
  holds: () => {}
})

/** The connection of a request. By default, outside of a connection, nothing is congested and nothing ends. */
export class CurrentConnection extends Context.Reference<CurrentConnection>()("exec-server/CurrentConnection", {
  defaultValue: (): Connection => lost("in process", "in process")
}) {}
