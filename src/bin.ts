/**
 * The `exec-server` command: starts a server or, through `Cli`, any other command.
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
import { Exited, exitStatusOf } from "./command/CommandExit.js"
import * as ServerExit from "./command/ServerExit.js"
import * as ServerFlags from "./command/ServerFlags.js"
import * as PlainText from "./internal/PlainText.js"
import * as Logging from "./server/Logging.js"
import * as ServerConfig from "./server/ServerConfig.js"

/** Prints a failure on one line. `Exited` has already printed its message. */
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
  return exitStatusOf(Option.getOrUndefined(Cause.failureOption(exit.cause)))
}

const args = process.argv.slice(2)

/** Only a server needs it, and what it loads is a third of the program. */
const loadServe = Effect.promise(() => import("./command/Serve.js"))

// Without arguments at a terminal, `Cli` may print help.
const serverFlags = args.length === 0 && isatty(0) ? Option.none() : ServerFlags.readAlone(args)

const run: Effect.Effect<void, unknown> = Option.match(serverFlags, {
  onSome: ({ texts, config }) =>
    Effect.flatMap(ServerConfig.load(texts, process.env, config), (settings) =>
      Effect.flatMap(loadServe, ({ serve }) => serve(settings, ServerConfig.fileOf(config, process.env)))
    ),
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

// If stdout or stderr is closed or its disk is full, lose the line, not the server.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})

// NodeRuntime removes its signal listeners at the end of the program. These keep a signal after that from changing the
// exit status.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})

NodeRuntime.runMain(main, {
  disableErrorReporting: true,
  disablePrettyLogger: true,
  // Exit explicitly: an open descriptor, of a half-open connection for example, must not keep the process alive.
  teardown: (exit) => (Option.isSome(serverFlags) ? ServerExit.exit : process.exit)(exitCode(exit))
})
