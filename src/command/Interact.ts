/**
 * Joins a process somewhere else to this command's terminal, or to its stdin, stdout and stderr.
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
import { codeOf, LocalSignals, type Signal } from "./LocalSignals.js"
import { CommandFailed, Exited } from "./Outcome.js"
import * as Terminal from "./Terminal.js"

/** What is joined, and how. */
export interface Options {
  readonly client: ExecClient.Shape
  readonly process: RemoteProcess
  /** Whether the process has a terminal. */
  readonly tty: boolean
  /** Whether the process goes on when this command has to end. */
  readonly survives: boolean
}

/** How long a terminal may stay open after its leader has ended, in milliseconds: others may hold it. */
const lateOutputMs = 1000

/** How long a process is given to end when this command is told to, in milliseconds. */
const graceMs = 2000

/**
 * How long a program may print nothing after the end of its input, in milliseconds, where the server cannot tell it of
 * that end: then it is taken for one that waits for it.
 */
const idleMs = 5000

/** After so many signals the command ends, whatever the process makes of them. */
const maxSignals = 3

const interrupt = 0x03
const detach = 0x1d

/** 128 + SIGPIPE: what a program gets that writes to nobody. */
const brokenPipe = 141

/** What `timeout` ends with when it has ended a command. */
const timedOut = 124

/**
 * Forwards output, input, signals and the size of the window until the process has ended; gives its status. Ends with
 * the process, or leaves it to itself if it `survives`.
 */
export const interact = ({ client, process: remote, tty, survives }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const signals = yield* LocalSignals
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const left = yield* Deferred.make<never, Exited | CommandFailed>()
      let connected = true
      let received = 0

      /** Ends this command; what happens to the process is decided below. */
      const leave = (code: number) => Deferred.unsafeDone(left, new Exited({ code }))

      const onSignal = (signal: Signal) => {
        const ends = signal === "SIGTERM" || signal === "SIGHUP"
        // A terminal's process is ended by the end of its terminal, and many shells ignore SIGTERM.
        if (!connected || ++received >= maxSignals || (ends && (tty || survives))) return leave(codeOf(signal))
        const unsupported = ({ message }: Unsupported) =>
          Effect.zipRight(
            Terminal.say(message),
            // What would end most programs ends this command, and the process with it.
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
            return event.bytes > 0 ? Terminal.say(`${event.bytes} bytes of output are gone`) : Effect.void
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
          if (!connected && isKey(interrupt)) return Effect.sync(() => leave(codeOf("SIGINT")))
          if (survives && isKey(detach)) return Effect.sync(() => leave(0))
          // Not waited for: keys must be heard also while the connection is lost. They are sent in their order.
          if (tty) return Effect.sync(() => void runFork(Effect.ignore(remote.write(chunk))))
          return remote.write(chunk)
        })
      /** A program that waits for an end that will not come would keep this command for ever. */
      const noEnd = (error: Unsupported) =>
        Effect.gen(function* () {
          if (survives || process.stdin.isTTY) return yield* Terminal.say(`${error.message} (^C interrupts it)`)
          for (let seen = -1; seen !== chunks; ) {
            seen = chunks
            if (Option.isSome(yield* Effect.timeoutOption(Effect.exit(remote.exit), idleMs))) return
          }
          const why = `${error.server} cannot ${error.what}, and this one neither ends by itself nor prints anything: it is terminated`
          const message = `${why}; give it no input (</dev/null), or a terminal (--tty)`
          Deferred.unsafeDone(left, new CommandFailed({ message }))
        })
      const endInput = Effect.catchTag(remote.closeStdin, "Unsupported", noEnd)
      const input = Effect.zipRight(Terminal.forEachInput(onInput), endInput).pipe(
        Effect.catchTag("CommandFailed", (failed) => Effect.sync(() => Deferred.unsafeDone(left, failed))),
        Effect.ignore
      )
      yield* Effect.forkScoped(Effect.interruptible(input))

      yield* client.watch(({ _tag }) => {
        connected = _tag === "Connected"
        if (_tag === "Recovering") runFork(Terminal.say("the connection is lost; trying to get it back (^C gives up)"))
      })

      const drained = Effect.gen(function* () {
        const fiber = yield* Effect.fork(output)
        const exit = yield* Effect.raceFirst(remote.exit, Effect.zipRight(Fiber.join(fiber), remote.exit))
        // Others may hold a terminal open after its leader has ended; of a pipe everything is waited for.
        const rest = tty ? Effect.timeoutOption(Fiber.join(fiber), lateOutputMs) : Effect.asSome(Fiber.join(fiber))
        if (Option.isNone(yield* rest)) yield* Fiber.interrupt(fiber)
        if (exit.timedOut === true) {
          yield* Terminal.say("the time has run out")
          return timedOut
        }
        if (exit.exitCode === null) return yield* new CommandFailed({ message: "the process ended in an unknown way" })
        return exit.exitCode
      })

      const terminate = survives ? Effect.void : endOf(remote)
      return yield* Effect.raceFirst(Effect.raceFirst(drained, Deferred.await(left)), watch).pipe(
        Effect.catchTag("OutputClosed", () => new Exited({ code: brokenPipe })),
        Effect.onError(() => Effect.zipRight(tty ? Terminal.reset : Effect.void, terminate))
      )
    })
  )

/** Writes output; who takes it slowly holds up the process, and loses nothing. */
const deliver = (client: ExecClient.Shape, to: "stdout" | "stderr", chunk: Buffer) =>
  Effect.suspend(() => {
    const written = Terminal.post(to, chunk)
    // At once: a fast process fills what this client keeps of its output within milliseconds.
    return Terminal.isTaken(to) ? written : Effect.scoped(Effect.zipRight(client.hold, written))
  })

/** Ends a process, first politely; bounded. */
const endOf = (remote: RemoteProcess): Effect.Effect<void> =>
  remote.terminate({ type: "graceful", timeoutMs: graceMs }).pipe(
    Effect.catchTag("Unsupported", () => remote.terminate()),
    Effect.ignore,
    Effect.zipRight(Effect.ignore<unknown, ClientError, never>(remote.exit)),
    Effect.interruptible,
    Effect.timeoutOption(graceMs + 1000),
    Effect.asVoid
  )
