/**
 * Messages over the stdin and stdout of a server of one's own: one a line.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ServerProcess from "./ServerProcess.js"
import * as StreamLink from "./StreamLink.js"
import type { OpenLink } from "./TextChannel.js"

/** What to start. */
export interface Options extends ServerProcess.Command {
  /** The longest message that is read, in bytes; 256 MiB. */
  readonly maxMessageBytes?: number | undefined
}

/** How long a server may take to exit after it has closed its stdout, and the other way round, in milliseconds. */
const lateMs = 1000

/** Links to new servers; each ends with its link. */
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
        // Its last lines may be answers, and its exit says why.
        Effect.zipRight(Effect.timeoutOption(Effect.zipRight(closed, exited), lateMs)),
        Effect.map((reason) => onEnd(Option.getOrElse(reason, () => "the server has closed its stdout"))),
        Effect.interruptible,
        Effect.forkScoped
      )
      return link
    })
