/**
 * The command: flags to Layers to a running server.
 *
 * @since 0.1.0
 */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import { Rendezvous } from "./remote/Rendezvous.js"
import * as RendezvousConfig from "./remote/RendezvousConfig.js"
import * as ExecServer from "./server/ExecServer.js"
import * as Exposure from "./server/Exposure.js"
import * as ServerConfig from "./server/ServerConfig.js"
import { version } from "./session/HostInfo.js"
import { Transport } from "./transport/Transport.js"

const placeholders = { count: "N", flag: "true|false", text: "TEXT", list: "TEXT,..." } as const

/** A flag for a setting; its text is read with the others'. What is off by default is a switch. */
const option = (key: ServerConfig.Key): Options.Options<Option.Option<string>> => {
  const { kind, default: value, shown, choices, help } = ServerConfig.settings[key]
  const name = ServerConfig.flagName(key)
  const description = `${help}; default ${shown}; or ${ServerConfig.variableName(key)}`
  if (kind === "choice") {
    return Options.text(name).pipe(
      Options.withPseudoName(choices.join("|")),
      Options.withDescription(description),
      Options.filterMap(
        Option.liftPredicate((text) => choices.includes(text)),
        `--${name} must be one of ${choices.join(", ")}`
      ),
      Options.optional
    )
  }
  return value === false
    ? Options.boolean(name).pipe(
        Options.withDescription(description),
        Options.map((given) => (given ? Option.some("true") : Option.none()))
      )
    : Options.text(name).pipe(
        Options.withPseudoName(placeholders[kind]),
        Options.withDescription(description),
        Options.optional
      )
}

// --log-level is one of the flags that every command of @effect/cli has.
const { logLevel: _logLevel, ...flagged } = ServerConfig.settings
const options = {
  ...(Object.fromEntries((Object.keys(flagged) as Array<keyof typeof flagged>).map((key) => [key, option(key)])) as {
    readonly [K in keyof typeof flagged]: ReturnType<typeof option>
  }),
  config: Options.file("config", { exists: "either" }).pipe(
    Options.withDescription("a TOML file with any of these settings, such as maxSessions = 16"),
    Options.optional
  )
}

/** One line for each registration, for people. */
const announceRegistration = (environmentId: string) =>
  Effect.sync(() => {
    process.stderr.write(`codex exec-server remote environment registered with environment_id ${environmentId}\n`)
  })

const sessions = ({ contain }: ServerConfig.ServerConfig) =>
  contain === "namespace" ? ExecServer.layerContained : ExecServer.layer

/** Two lines: the address alone for programs, on stdout; a sentence for people, on stderr. */
const announce = (name: string, address: string) =>
  Effect.sync(() => {
    process.stderr.write(`${name} listening on ${address}\n`)
    process.stdout.write(`${address}\n`)
  })

const announceServer = (exposure: Exposure.Exposure) =>
  Effect.flatMap(Transport, ({ address }) =>
    exposure._tag === "WebSocket" ? announce("exec-server", address) : Effect.void
  )

const optional = (name: string, placeholder: string, description: string) =>
  Options.text(name).pipe(Options.withPseudoName(placeholder), Options.withDescription(description), Options.optional)

const rendezvous = Command.make(
  "rendezvous",
  {
    listen: Options.text("listen").pipe(
      Options.withPseudoName("TEXT"),
      Options.withDescription("where to listen: ws://IP:PORT; default ws://127.0.0.1:0"),
      Options.withDefault("ws://127.0.0.1:0")
    ),
    executorTokenFile: optional(
      "executor-token-file",
      "FILE",
      "a file with the token that executors register with; or EXEC_SERVER_EXECUTOR_TOKEN; default: anybody may"
    ),
    clientTokenFile: optional(
      "client-token-file",
      "FILE",
      "a file with the token that clients connect with; or EXEC_SERVER_CLIENT_TOKEN; default: anybody may"
    ),
    publicUrl: optional("public-url", "URL", "where executors find it, if something stands in front of it: wss://HOST"),
    insecure: Options.boolean("insecure").pipe(
      Options.withDescription("listen on a public address although somebody need not authenticate")
    )
  },
  (flags) =>
    Effect.gen(function* () {
      const config = yield* RendezvousConfig.load(
        {
          ...flags,
          executorTokenFile: Option.getOrUndefined(flags.executorTokenFile),
          clientTokenFile: Option.getOrUndefined(flags.clientTokenFile),
          publicUrl: Option.getOrUndefined(flags.publicUrl)
        },
        process.env
      )
      const serve = Effect.flatMap(Rendezvous, ({ address }) => announce("exec-server rendezvous", address))
      yield* Effect.provide(Effect.zipRight(serve, Effect.never), Rendezvous.layer(config))
    })
).pipe(Command.withDescription("Brings clients and executors behind a firewall together."))

const command = Command.make("exec-server", options, ({ config: file, ...flags }) =>
  Effect.gen(function* () {
    const texts = Object.fromEntries(Object.entries(flags).map(([key, value]) => [key, Option.getOrUndefined(value)]))
    const config = yield* ServerConfig.load(texts, process.env, Option.getOrUndefined(file))
    const exposure = yield* Exposure.parse(config)
    const server = Effect.zipRight(announceServer(exposure), ExecServer.serve).pipe(
      Effect.provide(Layer.merge(sessions(config), Exposure.layer(exposure, announceRegistration))),
      Effect.provide(ServerConfig.layerLimits(config))
    )
    const flagGiven = process.argv.some((argument) => argument.startsWith("--log-level"))
    const level = LogLevel.allLevels.find(({ _tag }) => _tag.toLowerCase() === config.logLevel) ?? LogLevel.Warning
    yield* flagGiven ? server : Logger.withMinimumLogLevel(server, level)
  })
).pipe(
  Command.withDescription("Starts and controls processes for the clients that connect to it."),
  Command.withSubcommands([rendezvous])
)

/** Usage errors have been explained by then; a failed start is one line. */
const explain = (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => {
    const failure = Cause.failureOption(cause)
    if (Option.isNone(failure)) process.stderr.write(`Error: ${Cause.pretty(cause)}\n`)
    else if (!ValidationError.isValidationError(failure.value)) {
      const { value } = failure
      process.stderr.write(`Error: ${value instanceof Error ? value.message : String(value)}\n`)
    }
  })

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)) return 0
  const failure = Cause.failureOption(exit.cause)
  return Option.isSome(failure) && ValidationError.isValidationError(failure.value) ? 2 : 1
}

const main = Command.run(command, { name: "exec-server", version, executable: "exec-server" })(process.argv).pipe(
  Effect.tapErrorCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : explain(cause))),
  Effect.provide(
    Layer.mergeAll(
      NodeFileSystem.layer,
      NodePath.layer,
      NodeTerminal.layer,
      CliConfig.layer({ showBuiltIns: false, finalCheckBuiltIn: true }),
      Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))
    )
  )
)

// On a full disk, or with nobody at the other end, a log line is lost, and not the server.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})

NodeRuntime.runMain(main, {
  disableErrorReporting: true,
  disablePrettyLogger: true,
  // At once: a peer's half-open descriptor must not keep a server alive that has ended everything.
  teardown: (exit) => process.exit(exitCode(exit))
})
