/**
 * Starts a WebSocket server on a free port of this machine.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Lines from "../protocol/Lines.js"
import { LaunchFailed, LaunchTimeout } from "./ClientError.js"
import * as ServerProcess from "./ServerProcess.js"

/** The server's program; `--listen ws://127.0.0.1:0` is appended to its arguments. */
export interface Options extends ServerProcess.Command {
  /** The deadline for the server to print its address; 10 seconds. */
  readonly readyTimeout?: Duration.DurationInput | undefined
}

/** A running server. */
export interface Launched {
  /** The URL it listens on. */
  readonly url: string
  readonly pid: number
  /** Completes when it has exited, with the reason as a sentence. */
  readonly exited: Effect.Effect<string>
}

/** The longest line that is parsed as an address, in bytes. */
const maxLine = 4096

/** Starts a server, and waits until it listens. The scope ends it and everything it has started. */
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
      // Keep reading: a full pipe would block the server.
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
