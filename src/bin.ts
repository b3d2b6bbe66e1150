/**
 * The command: flags to Layers to a running server.
 *
 * @since 0.1.0
 */
import v8 from "node:v8"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
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
import * as Option from "effect/Option"
import * as Commands from "./command/Commands.js"
import { Exited, UsageError } from "./command/Outcome.js"
import * as RendezvousConfig from "./remote/RendezvousConfig.js"
import * as ConfigPrint from "./server/ConfigPrint.js"
import * as ExecServer from "./server/ExecServer.js"
import * as Exposure from "./server/Exposure.js"
import * as Logging from "./server/Logging.js"
import * as ServerConfig from "./server/ServerConfig.js"
import * as Telemetry from "./server/Telemetry.js"
import { version } from "./session/HostInfo.js"
import { Transport } from "./transport/Transport.js"

const placeholders = { count: "N", flag: "true|false", text: "TEXT", list: "TEXT,..." } as const

/** A flag for a setting; its text is read with the others'. What is off by default is a switch. */
const option = (key: ServerConfig.Key): Options.Options<Option.Option<string>> => {
  const { kind, default: value, shown, choices, help } = ServerConfig.settings[key]
  const name = ServerConfig.flagName(key)
  const description = `${help}; default ${shown}; or ${ServerConfig.variableName(key)}; or ${key} in a file`
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

const options = {
  ...(Object.fromEntries(ServerConfig.keys.map((key) => [key, option(key)])) as {
    readonly [K in ServerConfig.Key]: ReturnType<typeof option>
  }),
  config: Options.file("config", { exists: "either" }).pipe(
    Options.withDescription(
      `a TOML file with any of these settings, such as maxSessions = 16; default none; or ${ServerConfig.fileVariable}`
    ),
    Options.optional
  )
}

/** What was given on the command line. */
type Given = { readonly [K in keyof typeof options]: Option.Option<string> }

/** `--log-level` and its value. */
interface LogLevelArgument {
  readonly value: string | undefined
  readonly others: ReadonlyArray<string>
}

/**
 * Takes `--log-level` out of a command line: @effect/cli has a flag of this name of its own, which it knows only in the
 * first place and keeps to itself.
 */
const takeLogLevel = (args: ReadonlyArray<string>): LogLevelArgument => {
  const flag = "--log-level"
  const index = args.findIndex((arg) => arg === flag || arg.startsWith(`${flag}=`))
  if (index === -1) return { value: undefined, others: args }
  const joined = args[index] !== flag
  const rest = takeLogLevel([...args.slice(0, index), ...args.slice(joined ? index + 1 : index + 2)])
  const value = joined ? args[index]?.slice(flag.length + 1) : (args[index + 1] ?? "")
  return { value: rest.value ?? value, others: rest.others }
}

// Before the flags are read: what is behind `--` has flags of its own.
const end = process.argv.indexOf("--")
const argv = end === -1 ? process.argv : process.argv.slice(0, end)
const rest = end === -1 ? [] : process.argv.slice(end + 1)

const logLevel = takeLogLevel(argv)

/** The settings, and where they came from. */
const resolve = (...commands: ReadonlyArray<Given>) => {
  // What comes later on the command line, after the name of a subcommand, comes first.
  const find = (key: keyof Given) =>
    commands.map((given) => Option.getOrUndefined(given[key])).find((text) => text !== undefined)
  const texts = Object.fromEntries(ServerConfig.keys.map((key) => [key, find(key)]))
  return ServerConfig.resolve({ ...texts, logLevel: logLevel.value }, process.env, find("config"))
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

/** What somebody who has started the server by hand may want to do next. */
const suggest = (address: string) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`try: npx exec-server run --url ${address} -- echo hello\n`)
  })

/**
 * How garbage is collected in a server, once it has started.
 *
 * The space for young objects stays at the size that the start has made it: four times that, which it would grow to, is
 * taken by garbage alone, and would be most of what connections and processes seem to cost (`node scratch/bench.mjs
 * --only rss`); requests are served as fast.
 *
 * Few of them live, so that one thread is done with them in 0.3 ms. With more, it waits until the others were given a
 * processor: where children and clients keep all of them busy, up to ten times as long (`node scratch/relay.mjs` with
 * `--trace-gc` shows both).
 */
const limitGarbage = Effect.sync(() => {
  for (const flag of ["semi-space-growth-factor=1", "no-parallel-scavenge", "no-concurrent-array-buffer-sweeping"]) {
    v8.setFlagsFromString(`--${flag}`)
  }
})

const announceServer = (exposure: Exposure.Exposure) =>
  Effect.flatMap(Transport, ({ address }) =>
    exposure._tag === "WebSocket" ? Effect.zipRight(announce("exec-server", address), suggest(address)) : Effect.void
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
    tlsCert: optional("tls-cert", "FILE", "a certificate in PEM, to serve wss:// with; default none"),
    tlsKey: optional("tls-key", "FILE", "the certificate's key in PEM; default none"),
    logFormat: Options.choice("log-format", ["text", "json"]).pipe(
      Options.withDescription("how it logs; default text"),
      Options.withDefault("text")
    ),
    insecure: Options.boolean("insecure").pipe(
      Options.withDescription("listen on a public address although somebody need not authenticate")
    )
  },
  (flags) =>
    Effect.gen(function* () {
      // Servers need not load it.
      const { Rendezvous } = yield* Effect.promise(() => import("./remote/Rendezvous.js"))
      const config = yield* RendezvousConfig.load(
        {
          ...flags,
          executorTokenFile: Option.getOrUndefined(flags.executorTokenFile),
          clientTokenFile: Option.getOrUndefined(flags.clientTokenFile),
          publicUrl: Option.getOrUndefined(flags.publicUrl),
          tlsCert: Option.getOrUndefined(flags.tlsCert),
          tlsKey: Option.getOrUndefined(flags.tlsKey)
        },
        process.env
      )
      yield* limitGarbage
      const serve = Effect.flatMap(Rendezvous, ({ address }) => announce("exec-server rendezvous", address))
      const level = ServerConfig.logLevels.find((word) => word === logLevel.value) ?? "info"
      yield* Effect.zipRight(serve, Effect.never).pipe(
        Effect.provide(Rendezvous.layer(config)),
        Effect.provide(Logging.layer({ logFormat: flags.logFormat, logLevel: level }))
      )
    })
).pipe(Command.withDescription("Brings clients and executors behind a firewall together."))

const root = Command.make("exec-server", options, (given) =>
  Effect.gen(function* () {
    const config = ServerConfig.valuesOf(yield* resolve(given))
    const exposure = yield* Exposure.parse(config)
    yield* limitGarbage
    yield* Effect.zipRight(announceServer(exposure), ExecServer.serve).pipe(
      Effect.provide(Layer.merge(sessions(config), Exposure.layer(exposure, announceRegistration))),
      Effect.provide(ServerConfig.layerLimits(config)),
      Effect.provide(Telemetry.layer(config))
    )
  })
)

const print = Command.make("print", options, (given) =>
  Effect.gen(function* () {
    const resolved = yield* resolve(given, yield* root)
    yield* Effect.sync(() => process.stdout.write(ConfigPrint.format(resolved)))
  })
).pipe(Command.withDescription("Prints every setting and where it came from; secrets are masked."))

const command = root.pipe(
  Command.withDescription("Starts and controls processes for the clients that connect to it."),
  Command.withSubcommands([
    ...Commands.make(rest),
    rendezvous,
    Command.make("config").pipe(Command.withDescription("About settings."), Command.withSubcommands([print]))
  ])
)

/** Usage errors have been explained by then; a failed start is one line. */
const explain = (cause: Cause.Cause<unknown>) =>
  Effect.sync(() => {
    const failure = Cause.failureOption(cause)
    if (Option.isNone(failure)) process.stderr.write(`Error: ${Cause.pretty(cause)}\n`)
    else if (!ValidationError.isValidationError(failure.value) && !(failure.value instanceof Exited)) {
      const { value } = failure
      const message = value instanceof Error ? value.message : String(value)
      process.stderr.write(`Error: ${message.replace(/\s*\n\s*/g, " ")}\n`)
    }
  })

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)) return 0
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  if (failure instanceof Exited) return failure.code
  return ValidationError.isValidationError(failure) || failure instanceof UsageError ? 2 : 1
}

const run = Command.run(command, { name: "exec-server", version, executable: "exec-server" })

/** What only the value of `--log-level` can be wrong with, in the words of every other choice. */
const checkLogLevel = Effect.suspend(() => {
  const { value } = logLevel
  if (value === undefined || ServerConfig.logLevels.some((word) => word === value)) return Effect.void
  const message = `--log-level must be one of ${ServerConfig.logLevels.join(", ")}`
  process.stderr.write(`${message}\n`)
  return Effect.fail(ValidationError.invalidValue(HelpDoc.p(message)))
})

const main = Effect.zipRight(checkLogLevel, run(logLevel.others)).pipe(
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
