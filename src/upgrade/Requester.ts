/**
 * Who has asked for an upgrade, at the control socket.
 *
 * @since 0.1.0
 */
import type * as AuditLog from "../session/AuditLog.js"
import * as Grant from "../session/Grant.js"
import type * as SocketOwner from "../spawn/SocketOwner.js"

/** Who has asked for an upgrade. */
export interface Requester {
  /** The descriptor of the connection that the new version answers. */
  readonly fd: number | undefined
  /** For the audit log. */
  readonly who: AuditLog.Who
}

/** The owner of a connection, as the audit log names them. */
export const whoIs = (owner: SocketOwner.SocketOwner | undefined): AuditLog.Who => ({
  sessionId: null,
  subject: Grant.ofOwner(owner).id,
  peer: owner?._tag === "Unix" ? `process ${owner.pid}` : "control socket"
})
