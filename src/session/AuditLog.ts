/**
 * The audit log: who started, signalled and ended which process. An entry is written before the action, or at the
 * latest before the client gets the response.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NotAllowed } from "../protocol/Failure.js"

/**
 * The recorded events. They never contain arguments, environments or payloads; of a command only the program.
 *
 * @category models
 */
export type Entry =
  | {
      readonly event: "session.opened" | "session.resumed" | "session.detached"
    }
  | {
      /** Ends its processes too: each is followed by a `process.exited`. */
      readonly event: "session.ended"
      readonly reason: "disconnected" | "expired" | "displaced" | "ended" | "shutdown"
    }
  | {
      /** A client requests the end of a session. */
      readonly event: "session.end"
      readonly session: string
    }
  | {
      /** A start was requested and will be attempted. */
      readonly event: "process.start"
      readonly processId: string
      readonly program: string
      readonly tty: boolean
      readonly timeoutMs: number | undefined
    }
  | { readonly event: "process.started"; readonly processId: string; readonly pid: number }
  | {
      /** The start failed. Only the kind of failure is recorded, because its text may contain arguments. */
      readonly event: "process.refused"
      readonly processId: string
      readonly failure: string
    }
  | { readonly event: "process.restarted"; readonly processId: string; readonly pid: number; readonly attempt: number }
  | {
      readonly event: "recording.start"
      readonly recordingId: string
      readonly processId: string
      /** Whether input is recorded. */
      readonly input: boolean
    }
  | { readonly event: "recording.stop" | "recording.remove"; readonly recordingId: string }
  | { readonly event: "share.created"; readonly shareId: string; readonly processId: string; readonly role: string }
  | { readonly event: "share.revoked"; readonly shareId: string }
  | {
      /** A client watches a process. */
      readonly event: "process.attach"
      readonly processId: string
      readonly role: "viewer" | "operator"
    }
  | {
      /** Another version is about to replace this server; it has, or it has failed and the one before goes on. */
      readonly event: "server.upgrade" | "server.upgraded" | "server.upgradeFailed"
      readonly from: string
      readonly to: string
    }
  | {
      readonly event: "process.signal"
      readonly processId: string
      readonly signal: string
      readonly target: string
    }
  | {
      readonly event: "process.terminate"
      readonly processId: string
      readonly mode: "force" | "graceful"
    }
  | {
      readonly event: "process.exited"
      readonly processId: string
      readonly exitCode: number | null
      readonly signal: string | null
      /** Whether its `timeoutMs` ended it. */
      readonly timedOut: boolean
    }

/**
 * The actor of an entry: a session, its subject, and its current or last peer. An upgrade is asked for without a session.
 *
 * @category models
 */
export interface Who {
  readonly sessionId: string | null
  readonly subject: string
  readonly peer: string
}

/**
 * A destination for audit entries.
 *
 * @category models
 */
export interface Shape {
  /** Writes an entry synchronously; returns the reason if that failed. */
  readonly write: (who: Who, entry: Entry) => string | undefined
}

/**
 * The audit log. By default nothing is recorded.
 *
 * @category tags
 */
export class AuditLog extends Context.Reference<AuditLog>()("exec-server/AuditLog", {
  defaultValue: (): Shape => ({ write: () => undefined })
}) {}

/**
 * Records an action that must not happen unrecorded: if the entry cannot be written, the request fails.
 *
 * @category utilities
 */
export const require = ({ write }: Shape, who: Who, entry: Entry): Effect.Effect<void, NotAllowed> =>
  Effect.suspend(() => {
    const reason = write(who, entry)
    return reason === undefined
      ? Effect.void
      : new NotAllowed({ message: `the audit log cannot be written (${reason}): no process is started until it can` })
  })
