/**
 * `share`: makes a token for one process, for somebody else; `share --revoke` ends it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { need } from "../client/ServerFeatures.js"
import * as PlainText from "../internal/PlainText.js"
import * as Reference from "./Reference.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `share`. */
export interface Options {
  readonly target: Target.Target
  /** SESSION/PROCESS; with `--session`, a process of it. */
  readonly reference: string
  readonly role: "viewer" | "operator" | undefined
  readonly expiresInMs: number | undefined
  readonly label: string | undefined
  readonly json: boolean
}

/** How long a share is valid by default, in milliseconds. */
const defaultExpiryMs = 3_600_000

/** Prints the token, or with `json` all that is known of the share. */
export const share = ({ target, reference, expiresInMs = defaultExpiryMs, json, ...options }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { environment, session, processId } = yield* Reference.resolveProcess(target, reference)
      const { shares, features } = environment.client
      yield* need(features, features.extensions, "share a process")
      const handle = session ?? (yield* Reference.ownOf(environment.client))
      const made = yield* shares.create(processId, { ...options, session, expiresIn: expiresInMs })
      yield* Terminal.write("stdout", `${json ? PlainText.json({ ...made, session: handle }) : made.token}\n`)
      const revoke = `exec-server share --revoke ${made.shareId} ${Target.flagsOf(target)}`
      const where = Target.flagsOf({ ...target, tokenFile: "FILE" })
      yield* Terminal.say(
        `to use it, with the token in FILE: exec-server attach ${PlainText.quote(`${handle}/${processId}`)} ${where}`
      )
      yield* Terminal.say(`to end it: ${revoke}`)
    })
  )

/** Ends a share. */
export const revoke = ({ target, shareId }: { readonly target: Target.Target; readonly shareId: string }) =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* Target.needRemote(target, "of the share")
      const { client } = yield* Target.connect(target, target.session === undefined ? Target.transient : {})
      yield* client.shares.revoke(shareId)
    })
  )
