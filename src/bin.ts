/**
 * The command: its arguments to a running server, or to whatever else they ask for.
 *
 * @since 0.1.0
 */
import { isatty } from "node:tty"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { Exited, statusOf } from "./command/Outcome.js"
import { serve } from "./command/Serve.js"
import * as ServerFlags from "./command/ServerFlags.js"
import * as PlainText from "./internal/PlainText.js"
import * as Logging from "./server/Logging.js"
import * as ServerConfig from "./server/ServerConfig.js"

/** A failed start is one line; what ends with a status has said why. */
const explain = (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => {
    const failure = Cause.failureOption(cause)
    if (Option.isNone(failure))
      process.stderr.write(`Error: ${Cause.pretty(cause).split("\n").map(PlainText.plain).join("\n")}\n`)
    else if (!(failure.value instanceof Exited)) {
      const { value } = failure
      const message = value instanceof Error ? value.message : String(value)
      process.stderr.write(`Error: ${PlainText.plain(message.replace(/\s*\n\s*/g, " "))}\n`)
    }
  })

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)) return 0
  return statusOf(Option.getOrUndefined(Cause.failureOption(exit.cause)))
}

const args = process.argv.slice(2)

// Without any argument it may be help that is wanted, which is part of the rest.
const alone = args.length === 0 && isatty(0) ? Option.none() : ServerFlags.readAlone(args)

const run: Effect.Effect<void, unknown> = Option.match(alone, {
  onSome: ({ texts, config }) => Effect.flatMap(ServerConfig.load(texts, process.env, config), serve),
  onNone: () =>
    Effect.flatMap(
      Effect.promise(() => import("./command/Cli.js")),
      ({ run }) => run(args)
    )
})

const main = run.pipe(
  Effect.tapErrorCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : explain(cause))),
  Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logging.text)))
)

// On a full disk, or with nobody at the other end, a log line is lost, and not the server.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})

// The main program listens until its end. What comes between that and the end of the process changes no exit status.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})

NodeRuntime.runMain(main, {
  disableErrorReporting: true,
  disablePrettyLogger: true,
  // At once: a peer's half-open descriptor must not keep a server alive that has ended everything.
  teardown: (exit) => process.exit(exitCode(exit))
})
