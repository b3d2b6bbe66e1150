/**
 * `attach`: attaches this terminal to a running process of a session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { need } from "../client/ServerFeatures.js"
import { Exited } from "./CommandExit.js"
import { interact } from "./Interact.js"
import { join } from "./Join.js"
import * as Reference from "./Reference.js"
import type * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `attach`. */
export interface Options {
  readonly target: Target.Target
  /** SESSION[/PROCESS]; with `--session`, a process of it. */
  readonly reference: string
  /** Whether nothing that is typed is passed on. */
  readonly readOnly: boolean
}

/**
 * Replays the retained output, then forwards output, input and signals; exits with the status of the process. A session
 * that is given by its id is resumed. One that is not, or with `readOnly`, is left to its client: this command joins it.
 */
export const attach = ({ target, reference, readOnly }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const found = yield* Reference.resolve(target, reference)
      const { client, processes: attachable } = found.environment
      const id = yield* Reference.processOf(found)
      if (found.session !== undefined || readOnly) {
        const session = found.session ?? (yield* Reference.ownOf(client))
        return yield* join({ client, session, processId: id, readOnly })
      }
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
