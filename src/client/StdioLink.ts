/**
 * Messages over the stdin and stdout of a server that this client starts: one per line.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ServerProcess from "./ServerProcess.js"
import * as StreamLink from "./StreamLink.js"
import type { OpenLink } from "./TextChannel.js"

/** The server's program. */
export interface Options extends ServerProcess.Command {
  /** The longest message from the server, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
}

/** How long to wait for the exit after the end of stdout, and for the end of stdout after the exit, in milliseconds. */
const lateMs = 1000

/** Opens links to new server processes; each process ends with its link. */
export const open =
  (options: Options): OpenLink =>
  ({ onMessage, onMalformed, onEnd }) =>
    Effect.gen(function* () {
      const { stdin, stdout, exited } = yield* ServerProcess.make(options, "closeStdin")
      const { maxMessageBytes } = options
      const streams = { input: stdout, output: stdin, maxMessageBytes }
      const { link } = StreamLink.join(streams, { onMessage, onMalformed })
      const closed = Effect.async<void>((resume) => {
        if (stdout.closed) resume(Effect.void)
        else stdout.once("close", () => resume(Effect.void))
      })
      yield* Effect.raceFirst(closed, exited).pipe(
        // Wait for both: the last lines may be responses, and the exit gives the reason.
        Effect.zipRight(Effect.timeoutOption(Effect.zipRight(closed, exited), lateMs)),
        Effect.map((reason) => onEnd(Option.getOrElse(reason, () => "the server has closed its stdout"))),
        Effect.interruptible,
        Effect.forkScoped
      )
      return link
    })
