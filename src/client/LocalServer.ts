/**
 * A WebSocket server of one's own, on a free port of this machine.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Lines from "../protocol/Lines.js"
import { LaunchFailed, LaunchTimeout } from "./ClientError.js"
import * as ServerProcess from "./ServerProcess.js"

/** What to start; `--listen ws://127.0.0.1:0` is added to the arguments. */
export interface Options extends ServerProcess.Command {
  /** How long the server may take to print its address; 10 seconds. */
  readonly readyTimeout?: Duration.DurationInput | undefined
}

/** A server that runs. */
export interface Launched {
  /** Where it listens. */
  readonly url: string
  readonly pid: number
  /** Completes when it has exited, with the reason as a sentence. */
  readonly exited: Effect.Effect<string>
}

/** The longest line that could be an address, in bytes. */
const maxLine = 4096

/** Starts a server, and waits until it listens. It ends with the scope, and everything it has started with it. */
export const launchLocal = (options: Options): Effect.Effect<Launched, LaunchFailed | LaunchTimeout, Scope.Scope> =>
  Effect.gen(function* () {
    const { command, args = [], readyTimeout = "10 seconds" } = options
    const readyTimeoutMs = Duration.toMillis(readyTimeout)
    const { pid, stdout, exited } = yield* ServerProcess.make(
      { ...options, args: [...args, "--listen", "ws://127.0.0.1:0"] },
      "SIGTERM"
    )
    const address = Effect.async<string>((resume) => {
      const onLine = (text: string) => {
        if (/^wss?:\/\/\S+$/.test(text.trim())) resume(Effect.succeed(text.trim()))
      }
      // Read to the end, or the server would one day have to wait for somebody to read it.
      stdout.on("data", Lines.make(maxLine, { onLine, onBadLine: () => {} }))
    })
    const failed = Effect.flatMap(exited, (reason) => new LaunchFailed({ program: command, reason }))
    const url = yield* Effect.raceFirst(address, failed).pipe(
      Effect.timeoutFail({
        duration: readyTimeoutMs,
        onTimeout: () => new LaunchTimeout({ afterMs: readyTimeoutMs })
      })
    )
    return { url, pid, exited }
  })
