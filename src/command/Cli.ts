/**
 * The whole command line: flags, subcommands, help and mistakes, by @effect/cli.
 *
 * Loaded only where `ServerFlags` leaves something to it.
 *
 * @since 0.1.0
 */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as CommandDescriptor from "@effect/cli/CommandDescriptor"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import type * as Usage from "@effect/cli/Usage"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { version } from "../internal/Package.js"
import * as RendezvousConfig from "../remote/RendezvousConfig.js"
import * as ConfigPrint from "../server/ConfigPrint.js"
import * as Logging from "../server/Logging.js"
import * as ServerConfig from "../server/ServerConfig.js"
import * as Commands from "./Commands.js"
import * as Memory from "./Memory.js"
import * as Mistake from "./Mistake.js"
import { Exited } from "./Outcome.js"
import { announce, serve } from "./Serve.js"
import * as ServerFlags from "./ServerFlags.js"
import * as Terminal from "./Terminal.js"

const placeholders = { count: "N", flag: "true|false", text: "TEXT", list: "TEXT,..." } as const

/** A flag for a setting; its text is read with the others'. */
const option = (key: ServerConfig.Key): Options.Options<Option.Option<string>> => {
  const { kind, shown, choices, help } = ServerConfig.settings[key]
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
  return ServerConfig.isSwitch(key)
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

/** The settings, and where they came from. */
const resolve = (logLevel: string | undefined, ...commands: ReadonlyArray<Given>) => {
  // What comes later on the command line, after the name of a subcommand, comes first.
  const find = (key: keyof Given) =>
    commands.map((given) => Option.getOrUndefined(given[key])).find((text) => text !== undefined)
  const texts = Object.fromEntries(ServerConfig.keys.map((key) => [key, find(key)]))
  return ServerConfig.resolve({ ...texts, logLevel }, process.env, find("config"))
}

const optional = (name: string, placeholder: string, description: string) =>
  Options.text(name).pipe(Options.withPseudoName(placeholder), Options.withDescription(description), Options.optional)

const makeRendezvous = (logLevel: string | undefined) =>
  Command.make(
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
      publicUrl: optional(
        "public-url",
        "URL",
        "where executors find it, if something stands in front of it: wss://HOST"
      ),
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
        const { Rendezvous } = yield* Effect.promise(() => import("../remote/Rendezvous.js"))
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
        const level = ServerConfig.logLevels.find((word) => word === logLevel) ?? "info"
        yield* Effect.flatMap(Rendezvous, ({ address }) => announce("exec-server rendezvous", address)).pipe(
          Effect.zipRight(Memory.limit),
          Effect.zipRight(Effect.never),
          Effect.provide(Rendezvous.layer(config)),
          Effect.provide(Logging.layer({ logFormat: flags.logFormat, logLevel: level }))
        )
      })
  ).pipe(Command.withDescription("Brings clients and executors behind a firewall together."))

/** What the whole command line takes. */
const formOf = (usages: ReadonlyArray<Usage.Usage>): Mistake.Form => {
  const path = "exec-server"
  const settings = { flags: ServerFlags.options, words: [], commands: new Map<string, Mistake.Form>() }
  const commands = new Map(usages.map((usage) => Mistake.formOf(path, usage)))
  const print = { ...settings, path: `${path} config print` }
  commands.set("config", { path: `${path} config`, flags: {}, words: [], commands: new Map([["print", print]]) })
  return { ...settings, path, commands }
}

/** All commands, and what they take; `rest` is what came behind `--`. */
export const make = (logLevel: string | undefined, rest: ReadonlyArray<string>) => {
  const root = Command.make("exec-server", options, (given) =>
    Effect.flatMap(resolve(logLevel, given), (resolved) => serve(ServerConfig.valuesOf(resolved)))
  )
  const print = Command.make("print", options, (given) =>
    Effect.gen(function* () {
      const resolved = yield* resolve(logLevel, given, yield* root)
      yield* Terminal.write("stdout", ConfigPrint.format(resolved))
    })
  ).pipe(Command.withDescription("Prints every setting and where it came from; secrets are masked."))
  const others = [...Commands.make(rest), makeRendezvous(logLevel)] as const
  const command = root.pipe(
    Command.withDescription("Starts and controls processes for the clients that connect to it."),
    Command.withSubcommands([
      ...others,
      Command.make("config").pipe(Command.withDescription("About settings."), Command.withSubcommands([print]))
    ])
  )
  return { command, form: formOf(others.map(({ descriptor }) => CommandDescriptor.getUsage<unknown>(descriptor))) }
}

/** What @effect/cli would not find, or not find the words for. */
const check = (form: Mistake.Form, logLevel: string | undefined, args: ReadonlyArray<string>) => {
  const isLevel = logLevel === undefined || ServerConfig.logLevels.some((word) => word === logLevel)
  const message = isLevel ? Mistake.find(form, args) : `--log-level must be one of ${ServerConfig.logLevels.join(", ")}`
  if (message === undefined) return Effect.void
  process.stderr.write(`${message}\n`)
  return Effect.fail(ValidationError.invalidValue(HelpDoc.p(message)))
}

/**
 * A call for help or for the version, and nothing else of the line: @effect/cli finds neither behind other flags, and
 * shows the help of the first command for that of every other one when it searches for them.
 */
const plainest = (form: Mistake.Form, args: ReadonlyArray<string>): ReadonlyArray<string> => {
  if (args.includes("--help") || args.includes("-h")) return [...Mistake.commandOf(form, args), "--help"]
  return args.includes("--version") ? ["--version"] : args
}

/** Carries out a command line, `process.argv` as it is; of a mistake in it, which has been explained then, status 2 is left. */
export const run = (argv: ReadonlyArray<string>) =>
  Effect.suspend(() => {
    // What is behind `--` has flags of its own.
    const end = argv.indexOf("--")
    const { value: logLevel, others } = takeLogLevel(end === -1 ? argv : argv.slice(0, end))
    const { command, form } = make(logLevel, end === -1 ? [] : argv.slice(end + 1))
    const run = Command.run(command, { name: "exec-server", version, executable: "exec-server" })
    const args = plainest(form, others.slice(2))
    return Effect.zipRight(check(form, logLevel, args), run([...others.slice(0, 2), ...args]))
  }).pipe(
    Effect.catchIf(ValidationError.isValidationError, () => Effect.fail(new Exited({ code: 2 }))),
    Effect.provide(
      Layer.mergeAll(
        NodeFileSystem.layer,
        NodePath.layer,
        NodeTerminal.layer,
        CliConfig.layer({ showBuiltIns: false, finalCheckBuiltIn: false })
      )
    )
  )
