/**
 * `kill`: sends a signal to a process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as ExecClient from "../client/ExecClient.js"
import { need } from "../client/ServerFeatures.js"
import { ProcessId } from "../protocol/Ids.js"
import { SignalName } from "../protocol/Signals.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Target from "./Target.js"

/** The arguments of `kill`. */
export interface Options {
  readonly target: Target.Target
  readonly id: string
  /** The name of a signal, with or without SIG. */
  readonly signal: string
}

const decodeSignal = Schema.decodeUnknown(SignalName)

/** Fails if the session has no such process: `process/signal` would succeed nevertheless. */
const exists = ({ call, features }: ExecClient.Shape, processId: ProcessId) =>
  Effect.gen(function* () {
    // The original has no `process/list`. A read after the last possible seq returns no output, or the error.
    if (!features.extensions) return yield* call("process/read", { processId, afterSeq: Number.MAX_SAFE_INTEGER })
    const { processes } = yield* call("process/list", {})
    const found = processes.some((one) => one.processId === processId)
    return found ? undefined : yield* new CommandFailed({ message: `unknown process id ${processId}` })
  })

/** Signals the whole process tree; SIGKILL terminates it. */
export const kill = ({ target, id, signal }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const name = signal.toUpperCase().replace(/^(?!SIG)/, "SIG")
      const decoded = yield* Effect.mapError(
        decodeSignal(name),
        () => new UsageError({ message: `--signal ${signal}: unknown signal; use a name such as SIGTERM` })
      )
      const { client } = yield* Target.resume(target)
      const processId = ProcessId.make(id)
      yield* exists(client, processId)
      if (name === "SIGKILL") yield* client.call("process/terminate", { processId })
      else if (client.features.extensions) {
        yield* client.call("process/signal", { processId, signal: decoded, target: "tree" })
      } else {
        const { signals } = client.features
        const able = signals === "interrupt" ? "it can send INT and KILL" : "it can only send KILL"
        yield* need(client.features, signals === "interrupt" && name === "SIGINT", `send ${name}`, able)
        yield* client.call("process/signal", { processId, signal: decoded })
      }
    })
  )
