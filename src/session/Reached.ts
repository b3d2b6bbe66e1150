/**
 * The session that a request concerns: the connection's own, or another one that its grant permits.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Immediate from "../internal/Immediate.js"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { Method } from "../protocol/ExecApi.js"
import { type Failure, UnknownProcess, UnknownSession } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"
import * as Access from "./Access.js"
import type * as AuditLog from "./AuditLog.js"
import { initialized } from "./Handshake.js"
import { factsOf } from "./MethodCodecs.js"
import type { Session, SessionRegistry } from "./SessionRegistry.js"

/** The session that a request concerns, and the actor for the audit log. */
export interface Reached {
  readonly session: Session
  readonly who: AuditLog.Who
}

/** Finds the session that a request concerns. Fails if the grant does not permit it, or if there is none. */
export const find =
  (registry: Context.Tag.Service<SessionRegistry>) =>
  (method: Method, { session: handle, processId }: Access.Target) =>
    Immediate.flatMap(initialized, ({ session: own, grant }): Effect.Effect<Reached, Failure> => {
      if (handle === undefined || handle === own.handle) return Exit.succeed({ session: own, who: own.who })
      const { access } = factsOf(method)
      const refusal = Access.refusalOfOther(grant, method, access, { session: handle, processId })
      if (refusal !== undefined) return Exit.fail(refusal)
      const session = registry.find(handle)
      if (session === undefined) return Exit.fail(new UnknownSession({ sessionId: handle }))
      if (grant.share !== undefined && grant.scope?.processId !== undefined) {
        const processId = ProcessId.make(grant.scope.processId)
        if (!grant.share.covers(session.supervisor.find(processId))) return Exit.fail(new UnknownProcess({ processId }))
      }
      return Exit.succeed({ session, who: { ...session.who, subject: grant.id, peer: own.who.peer } })
    })

/** Uses the process that a request concerns, in the order of requests. Fails if the session has none of its id. */
export const process = (registry: Context.Tag.Service<SessionRegistry>) => {
  const target = find(registry)
  return <A, E>(
    method: Method,
    about: Access.Target & { readonly processId: ProcessId },
    use: (process: ManagedProcess, reached: Reached) => Effect.Effect<A, E>
  ) =>
    Immediate.flatMap(target(method, about), (reached) =>
      reached.session.supervisor.act(
        about.processId,
        (found): Effect.Effect<A, E | UnknownProcess> =>
          found === undefined ? Exit.fail(new UnknownProcess(about)) : use(found, reached)
      )
    )
}

/** The sessions that the grant of a request may list, each time. */
export const listed = (registry: Context.Tag.Service<SessionRegistry>) =>
  Immediate.map(initialized, ({ session, grant }) =>
    Access.reachOf(grant, "list") === "all" ? registry.list : () => [session]
  )
