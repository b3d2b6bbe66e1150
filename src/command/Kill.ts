/**
 * `kill`: sends a signal to a process, or ends a session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as ExecClient from "../client/ExecClient.js"
import { need } from "../client/ServerFeatures.js"
import type { Environment } from "../environment/Environment.js"
import { ProcessId } from "../protocol/Ids.js"
import { SignalName } from "../protocol/Signals.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Reference from "./Reference.js"
import type * as Target from "./Target.js"

/** The arguments of `kill`. */
export interface Options {
  readonly target: Target.Target
  /** SESSION[/PROCESS]; with `--session`, a process of it. */
  readonly reference: string
  /** The name of a signal, with or without SIG; SIGTERM by default. */
  readonly signal: string | undefined
}

const decodeSignal = Schema.decodeUnknown(SignalName)

/** Fails if the session has no such process: `process/signal` would succeed nevertheless. */
const exists = ({ call, features }: ExecClient.Shape, session: string | undefined, processId: ProcessId) =>
  Effect.gen(function* () {
    // The original has no `process/list`. A read after the last possible seq returns no output, or the error.
    if (!features.extensions) return yield* call("process/read", { processId, afterSeq: Number.MAX_SAFE_INTEGER })
    const { processes } = yield* call("process/list", { session })
    const found = processes.some((one) => one.processId === processId)
    return found ? undefined : yield* new CommandFailed({ message: `unknown process id ${processId}` })
  })

/** Ends a session by its handle; without one, that of the connection. */
const endSession = ({ client }: Environment, handle: string | undefined) =>
  Effect.gen(function* () {
    yield* client.sessions.end(handle ?? (yield* Reference.ownOf(client)))
  })

/** Signals the whole process tree; SIGKILL terminates it. A session alone is ended, with all of its processes. */
export const kill = ({ target, reference, signal }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const name = (signal ?? "SIGTERM").toUpperCase().replace(/^(?!SIG)/, "SIG")
      const decoded = yield* Effect.mapError(
        decodeSignal(name),
        () => new UsageError({ message: `--signal ${signal}: unknown signal; use a name such as SIGTERM` })
      )
      const { environment, session, processId: id } = yield* Reference.resolve(target, reference)
      if (id === undefined) {
        if (signal === undefined) return yield* endSession(environment, session)
        return yield* new UsageError({
          message: "--signal needs a process: write SESSION/PROCESS; a session is ended without"
        })
      }
      const { client } = environment
      const processId = ProcessId.make(id)
      yield* exists(client, session, processId)
      if (name === "SIGKILL") yield* client.call("process/terminate", { session, processId })
      else if (client.features.extensions) {
        yield* client.call("process/signal", { session, processId, signal: decoded, target: "tree" })
      } else {
        const { signals } = client.features
        const able = signals === "interrupt" ? "it can send INT and KILL" : "it can only send KILL"
        yield* need(client.features, signals === "interrupt" && name === "SIGINT", `send ${name}`, able)
        yield* client.call("process/signal", { processId, signal: decoded })
      }
    })
  )
