/**
 * Runs the effect of a command as the program: prints its failure, and exits with its status.
 *
 * @since 0.1.0
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Journal from "../internal/Journal.js"
import * as PlainText from "../internal/PlainText.js"
import * as Logging from "../server/Logging.js"
import { Exited, exitStatusOf } from "./CommandExit.js"

const printError = (...lines: ReadonlyArray<string>) => {
  const prefix = Journal.prefix(3)
  process.stderr.write(`${prefix}Error: ${lines.map(PlainText.plain).join(`\n${prefix}`)}\n`)
}

/** Prints a failure on one line. `Exited` has already printed its message. */
const explain = (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => {
    const failure = Cause.failureOption(cause)
    if (Option.isNone(failure)) printError(...Cause.pretty(cause).split("\n"))
    else if (!(failure.value instanceof Exited)) {
      const { value } = failure
      const message = value instanceof Error ? value.message : String(value)
      printError(message.replace(/\s*\n\s*/g, " "))
    }
  })

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)) return 0
  return exitStatusOf(Option.getOrUndefined(Cause.failureOption(exit.cause)))
}

/**
 * Runs it until it ends, or until SIGINT or SIGTERM interrupts it. It exits explicitly, by `exit`: an open descriptor,
 * of a half-open connection for example, must not keep the process alive.
 */
export const run = (command: Effect.Effect<void, unknown>, exit: (status: number) => never): void => {
  // If stdout or stderr is closed or its disk is full, lose the line, not the server.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})

  // NodeRuntime removes its signal listeners at the end of the program. These keep a signal after that from changing
  // the exit status.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})

  NodeRuntime.runMain(
    command.pipe(
      Effect.tapErrorCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : explain(cause))),
      Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logging.forStderr(Logging.text))))
    ),
    {
      disableErrorReporting: true,
      disablePrettyLogger: true,
      teardown: (result) => exit(exitCode(result))
    }
  )
}
