/**
 * Connects a remote process to this command's terminal, or to its stdin, stdout and stderr.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import type { ClientError, Unsupported } from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import type { ProcessEvent } from "../client/ProcessEvent.js"
import type { RemoteProcess } from "../client/RemoteProcess.js"
import { CommandFailed, Exited } from "./CommandExit.js"
import { codeOf, LocalSignals, type Signal } from "./LocalSignals.js"
import * as Terminal from "./Terminal.js"

/** The process, and how to connect it. */
export interface Options {
  readonly client: ExecClient.Shape
  readonly process: RemoteProcess
  /** Whether the process has a terminal. */
  readonly tty: boolean
  /** Whether the process keeps running when this command ends. */
  readonly survives: boolean
}

/** How long to read a terminal after its leader has exited, in milliseconds: descendants may hold it open forever. */
const lateOutputMs = 1000

/** The grace period of the process when this command is terminated, in milliseconds. */
const graceMs = 2000

/**
 * If the server cannot close stdin: how long a program may stay silent after the end of the input, in milliseconds,
 * before we assume that it waits for that end.
 */
const idleMs = 5000

/** The number of signals after which the command exits, even if the process ignores them. */
const maxSignals = 3

/** The highest exit status there is. */
const maxStatus = 255

/** The status of timeout(1) for a command that timed out. */
const timedOut = 124

/**
 * Forwards output, input, signals and the window size until the process exits; returns its status. If it is interrupted
 * or fails, it terminates the process, unless that `survives`.
 */
export const interact = ({ client, process: remote, tty, survives }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const signals = yield* LocalSignals
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const left = yield* Deferred.make<never, Exited | CommandFailed>()
      let connected = true
      let received = 0

      /** Ends this command with a status; `terminate` below deals with the process. */
      const leave = (code: number) => Deferred.unsafeDone(left, new Exited({ code }))

      const onSignal = (signal: Signal) => {
        const ends = signal === "SIGTERM" || signal === "SIGHUP"
        // With a terminal, hanging up ends the process; interactive shells ignore SIGTERM.
        if (!connected || ++received >= maxSignals || (ends && (tty || survives))) return leave(codeOf(signal))
        const unsupported = ({ message }: Unsupported) =>
          Effect.zipRight(
            Terminal.say(message),
            // The server cannot deliver the signal. If it ends programs by default, end this command and the process.
            Effect.sync(() => (signal === "SIGUSR1" || signal === "SIGUSR2" ? undefined : leave(codeOf(signal))))
          )
        runFork(Effect.ignore(Effect.catchTag(remote.signal(signal), "Unsupported", unsupported)))
      }
      yield* signals.take(onSignal)

      if (tty) {
        yield* Terminal.raw
        const resize = () => {
          const size = Terminal.size()
          if (size !== undefined) runFork(Effect.ignore(remote.resize(size.rows, size.cols)))
        }
        if (client.features.extensions) yield* Terminal.onResize(resize)
      }

      const watch = Effect.gen(function* () {
        const error = yield* client.ended
        return yield* new CommandFailed({ message: error.message })
      })

      let chunks = 0
      const onOutput = (event: ProcessEvent): Effect.Effect<void, Terminal.OutputError> => {
        switch (event._tag) {
          case "Output":
            chunks++
            return deliver(client, event.stream === "stderr" ? "stderr" : "stdout", event.chunk)
          case "Missed":
            return event.bytes > 0 ? Terminal.say(`${event.bytes} bytes of output were lost`) : Effect.void
          case "Restarted":
          case "Exited":
          case "Closed":
            return Effect.void
        }
      }
      const output = Stream.runForEach(remote.events, onOutput)

      const onInput = (chunk: Buffer) =>
        Effect.suspend(() => {
          const isKey = (key: number) => tty && chunk.includes(key)
          if (!connected && isKey(Terminal.interruptKey)) return Effect.sync(() => leave(codeOf("SIGINT")))
          if (survives && isKey(Terminal.detachKey)) return Effect.sync(() => leave(0))
          // Not awaited: ^C must work while the connection is lost. The client keeps the order of writes.
          if (tty) return Effect.sync(() => void runFork(Effect.ignore(remote.write(chunk))))
          return remote.write(chunk)
        })
      /** The server cannot close stdin. A program that waits for EOF would then keep this command running forever. */
      const onNoEof = (error: Unsupported) =>
        Effect.gen(function* () {
          if (survives || process.stdin.isTTY) return yield* Terminal.say(`${error.message} (^C interrupts it)`)
          for (let seen = -1; seen !== chunks; ) {
            seen = chunks
            if (Option.isSome(yield* Effect.timeoutOption(Effect.exit(remote.exit), idleMs))) return
          }
          const why = `${error.server} cannot ${error.what}, and the process neither exits nor prints anything: it is terminated`
          const message = `${why}; give it no input (</dev/null), or a terminal (--tty)`
          Deferred.unsafeDone(left, new CommandFailed({ message }))
        })
      const endInput = Effect.catchTag(remote.closeStdin, "Unsupported", onNoEof)
      const input = Effect.zipRight(Terminal.forEachInput(onInput), endInput).pipe(
        Effect.catchTag("CommandFailed", (failed) => Effect.sync(() => Deferred.unsafeDone(left, failed))),
        Effect.ignore
      )
      yield* Effect.forkScoped(Effect.interruptible(input))

      yield* client.watch(({ _tag }) => {
        connected = _tag === "Connected"
        if (_tag === "Recovering") runFork(Terminal.say("the connection is lost; reconnecting (^C gives up)"))
      })

      const drained = Effect.gen(function* () {
        const fiber = yield* Effect.fork(output)
        const exit = yield* Effect.raceFirst(remote.exit, Effect.zipRight(Fiber.join(fiber), remote.exit))
        // Descendants may hold a terminal open after the leader's exit. A pipe is read to its end.
        const rest = tty ? Effect.timeoutOption(Fiber.join(fiber), lateOutputMs) : Effect.asSome(Fiber.join(fiber))
        if (Option.isNone(yield* rest)) yield* Fiber.interrupt(fiber)
        if (exit.timedOut === true) {
          yield* Terminal.say("the process timed out")
          return timedOut
        }
        if (exit.oomKilled === true) yield* Terminal.say("the kernel has killed it, or a part of it: out of memory")
        if (exit.exitCode === null)
          return yield* new CommandFailed({ message: "the exit status of the process is unknown" })
        if (exit.exitCode < 0 || exit.exitCode > maxStatus) {
          const message = `exec-server reports ${exit.exitCode} as the exit status of the process, which is none of 0 to ${maxStatus}`
          return yield* new CommandFailed({ message })
        }
        return exit.exitCode
      })

      const terminate = survives ? Effect.void : endOf(remote)
      return yield* Effect.raceFirst(Effect.raceFirst(drained, Deferred.await(left)), watch).pipe(
        Effect.onError(() => Effect.zipRight(tty ? Terminal.reset : Effect.void, terminate))
      )
    })
  )

/** Writes output. A slow reader slows down the process (backpressure); no output is lost. */
const deliver = (client: ExecClient.Shape, to: "stdout" | "stderr", chunk: Buffer) =>
  Effect.suspend(() => {
    const written = Terminal.post(to, chunk)
    // Hold at once: a fast process fills the client's buffer within milliseconds.
    return Terminal.isFlushed(to) ? written : Effect.scoped(Effect.zipRight(client.hold, written))
  })

/** Terminates a process gracefully, with a deadline. */
const endOf = (remote: RemoteProcess): Effect.Effect<void> =>
  remote.terminate({ type: "graceful", timeoutMs: graceMs }).pipe(
    Effect.catchTag("Unsupported", () => remote.terminate()),
    Effect.ignore,
    Effect.zipRight(Effect.ignore<unknown, ClientError, never>(remote.exit)),
    Effect.interruptible,
    Effect.timeoutOption(graceMs + 1000),
    Effect.asVoid
  )
