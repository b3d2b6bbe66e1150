/**
 * `attach`: attaches this terminal to a running process of a session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { need } from "../client/ServerFeatures.js"
import { Exited } from "./CommandExit.js"
import { interact } from "./Interact.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `attach`. */
export interface Options {
  readonly target: Target.Target
  readonly id: string
}

/** Replays the retained output, then forwards output, input and signals; exits with the status of the process. */
export const attach = ({ target, id }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { client, processes: attachable } = yield* Target.resume(target)
      const advice = "`logs --follow` shows its output"
      yield* need(client.features, client.features.extensions, "tell whether a process has a terminal", advice)
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
