/**
 * The open connections of a server, as an upgrade sees them.
 *
 * @since 0.1.0
 */
import type { Requests } from "./MethodCodecs.js"
import type { Ending } from "./Peer.js"

/** One connection, from its first message until its session is released. */
export interface OpenConnection {
  /** Whether its client can come back and resume its session. */
  readonly isResumable: () => boolean
  /** Whether its client is a part of this server. It ends with the server. */
  readonly isInProcess: boolean
  /** The processes of its session that run. */
  readonly processes: () => number
  /** Makes requests that arrive wait, or takes them again. Those that are held when the connection ends are dropped. */
  readonly hold: (isHeld: boolean) => void
  /** The methods of the requests that have no answer yet. */
  readonly unanswered: () => ReadonlyArray<Requests["_tag"]>
  /** Interrupts the requests with these methods. Their answer is an error with the reason. */
  readonly interrupt: (which: (method: Requests["_tag"]) => boolean, reason: string) => void
  /** What else ends with the connection, such as open files: what, and how many. */
  readonly held: () => ReadonlyArray<{ readonly what: string; readonly count: number }>
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
  /** Starts to end it. */
  readonly end: (ending: Ending) => void
}
