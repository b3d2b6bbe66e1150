/**
 * `attach`: back to a process that was left running.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { need } from "../client/ServerFeatures.js"
import { interact } from "./Interact.js"
import { Exited } from "./Outcome.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** Which process, and where. */
export interface Options {
  readonly target: Target.Target
  readonly id: string
}

/** Forwards its output from the first byte that is retained, and everything else; ends with its status. */
export const attach = ({ target, id }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { client, processes: attachable } = yield* Target.resume(target)
      const advice = "`logs --follow` shows its output"
      yield* need(client.features, client.features.extensions, "say whether a process has a terminal", advice)
      const { processes } = yield* client.call("process/list", {})
      const tty = processes.some(({ processId, tty }) => processId === id && tty)
      const process = yield* attachable.attach(id)
      const size = Terminal.size()
      if (tty && size !== undefined) yield* Effect.ignore(process.resize(size.rows, size.cols))
      if (tty) yield* Terminal.say("attached; ^] detaches")
      const code = yield* interact({ client, process, tty, survives: true })
      return yield* new Exited({ code })
    })
  )
