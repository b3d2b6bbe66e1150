/**
 * `kill`: a signal to a process, or its end.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as ExecClient from "../client/ExecClient.js"
import { need } from "../client/ServerFeatures.js"
import { ProcessId } from "../protocol/Ids.js"
import { SignalName } from "../protocol/Signals.js"
import { CommandFailed, UsageError } from "./Outcome.js"
import * as Target from "./Target.js"

/** Which process, and what it gets. */
export interface Options {
  readonly target: Target.Target
  readonly id: string
  /** The name of a signal, with or without SIG. */
  readonly signal: string
}

const decodeSignal = Schema.decodeUnknown(SignalName)

/** Fails for a process that the session does not have: signals that reach nobody are no error. */
const exists = ({ call, features }: ExecClient.Shape, processId: ProcessId) =>
  Effect.gen(function* () {
    // The original has no list; what it retains of the process, after anything that could be, is nothing.
    if (!features.extensions) return yield* call("process/read", { processId, afterSeq: Number.MAX_SAFE_INTEGER })
    const { processes } = yield* call("process/list", {})
    const found = processes.some((one) => one.processId === processId)
    return found ? undefined : yield* new CommandFailed({ message: `unknown process id ${processId}` })
  })

/** Sends the signal to everything that the process has started; SIGKILL also ends what would survive it. */
export const kill = ({ target, id, signal }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const name = signal.toUpperCase().replace(/^(?!SIG)/, "SIG")
      const decoded = yield* Effect.mapError(
        decodeSignal(name),
        () => new UsageError({ message: `--signal ${signal}: there is no such signal; SIGTERM is one` })
      )
      const { client } = yield* Target.resume(target)
      const processId = ProcessId.make(id)
      yield* exists(client, processId)
      if (name === "SIGKILL") yield* client.call("process/terminate", { processId })
      else if (client.features.extensions) {
        yield* client.call("process/signal", { processId, signal: decoded, target: "tree" })
      } else {
        const { signals } = client.features
        const able = signals === "interrupt" ? "it can send INT and KILL" : "it can send KILL alone"
        yield* need(client.features, signals === "interrupt" && name === "SIGINT", `send ${name}`, able)
        yield* client.call("process/signal", { processId, signal: decoded })
      }
    })
  )
