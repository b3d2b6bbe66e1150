/**
 * `kill`: a signal to a process, or its end.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
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
      const { processes } = yield* client.call("process/list", {})
      const info = processes.find((one) => one.processId === processId)
      if (info === undefined) return yield* new CommandFailed({ message: `unknown process id ${id}` })
      if (name === "SIGKILL") yield* client.call("process/terminate", { processId })
      else yield* client.call("process/signal", { processId, signal: decoded, target: "tree" })
    })
  )
