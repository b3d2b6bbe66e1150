/**
 * The handlers of requests about shares.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { type Failure, UnknownShare } from "../protocol/Failure.js"
import { ShareApi } from "../protocol/ShareApi.js"
import * as Access from "./Access.js"
import * as AuditLog from "./AuditLog.js"
import { initialized } from "./Handshake.js"
import { using } from "./OptionalService.js"
import * as Reached from "./Reached.js"
import type { SessionRegistry } from "./SessionRegistry.js"
import { Shares, unavailable } from "./Shares.js"

interface Created {
  readonly shareId: string
  readonly token: string
  readonly path: string
  readonly expiresAtMs: number
}

/** These handlers, for the layer of all handlers. */
export const make = (registry: Context.Tag.Service<SessionRegistry>) =>
  Effect.gen(function* () {
    const shares = yield* Shares
    const audit = yield* AuditLog.AuditLog
    const process = Reached.process(registry)
    if (shares !== undefined) registry.include(shares.part)
    const withShares = using(shares, unavailable)

    return ShareApi.of({
      "share/create": (params) =>
        process("share/create", params, (found, { session, who }) =>
          withShares(
            (shares): Effect.Effect<Created, Failure> =>
              Either.match(shares.create(session, found, params), {
                onLeft: Exit.fail,
                onRight: ({ info: { shareId, expiresAtMs }, token }) => {
                  const { processId, role } = params
                  audit.write(who, { event: "share.created", shareId, processId, role })
                  return Exit.succeed({ shareId, token, path: `/console#share=${token}`, expiresAtMs })
                }
              })
          )
        ),

      "share/list": () =>
        Effect.flatMap(initialized, ({ session, grant }) =>
          withShares((shares) => {
            const isAll = Access.reachOf(grant, "manage") === "all"
            return Effect.succeed({
              shares: shares.list().filter((share) => isAll || share.session === session.handle)
            })
          })
        ),

      "share/revoke": ({ shareId }) =>
        Effect.flatMap(initialized, ({ session, grant }) =>
          withShares((shares): Effect.Effect<object, Failure> => {
            const share = shares.list().find((one) => one.shareId === shareId)
            if (share === undefined) return new UnknownShare({ shareId })
            const refusal =
              share.session === session.handle
                ? undefined
                : Access.refusalOfOther(grant, "share/revoke", "manage", share)
            if (refusal !== undefined) return refusal
            shares.revoke(shareId)
            audit.write({ ...session.who, subject: grant.id }, { event: "share.revoked", shareId })
            return Effect.succeed({})
          })
        )
    })
  })
