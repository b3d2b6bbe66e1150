/**
 * The whole command line: the server, the commands, their help and usage errors.
 *
 * Loaded only if the arguments are more than server flags (see `ServerFlags`), to keep the start of a server fast.
 *
 * @since 0.1.0
 */
import { isatty } from "node:tty"
import * as Effect from "effect/Effect"
import { version } from "../internal/Package.js"
import * as PlainText from "../internal/PlainText.js"
import * as ConfigPrint from "../server/ConfigPrint.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { Exited } from "./CommandExit.js"
import type * as CommandLine from "./CommandLine.js"
import * as Commands from "./Commands.js"
import { what } from "./CommonFlags.js"
import * as Completion from "./Completion.js"
import * as Flag from "./Flag.js"
import * as Grammar from "./Grammar.js"
import * as Help from "./Help.js"
import * as ServerFlags from "./ServerFlags.js"
import * as Terminal from "./Terminal.js"

const print = (text: string) => Terminal.write("stdout", text)

const printHelp = (command: Grammar.Command) =>
  Effect.suspend(() => print(Help.format(command, Help.styleOf(process.stdout, process.env))))

/** Prints a usage error on one line, without control characters, and exits with status 2. */
const refuse = (message: string) =>
  Effect.zipRight(Terminal.write("stderr", `${PlainText.plain(message)}\n`), new Exited({ code: 2 }))

/** Resolves the settings and the origin of each. */
const resolve = (values: CommandLine.Values) => {
  const { texts, config } = ServerFlags.settingsOf(values)
  return ServerConfig.resolve(texts, process.env, config)
}

const configPrint = Grammar.make(
  ["config", "print"],
  {
    summary: "Prints every setting and its origin; secrets are masked.",
    note: "The output is a configuration file. Takes every flag of the server.",
    flags: Flag.ofServer,
    examples: [["exec-server config print --max-sessions 16 > exec-server.toml", "a file for --config"]]
  },
  ({ values }) => Effect.flatMap(resolve(values), (resolved) => print(ConfigPrint.format(resolved)))
)

const config = Grammar.make(["config"], { summary: "Shows the configuration.", flags: [] }, undefined, [configPrint])

const serviceFlags = {
  socket: Flag.toggle("socket", what, "have systemd make the socket: print a .socket unit as well"),
  runAs: Flag.withDefault(
    Flag.text("run-as", "USER", what, "the user that the server and its processes run as"),
    "exec-server"
  ),
  directory: Flag.text("directory", "DIR", what, "write the units into this folder, instead of printing them")
}

const servicePrint = Grammar.typed(
  ["service", "print"],
  {
    summary: "Prints a unit of systemd that runs a server with these flags.",
    note: "Takes every flag of the server. Paths become absolute; variables and defaults are not carried over.",
    flags: { ...Object.fromEntries(Flag.ofServer.map((flag) => [flag.name, flag])), ...serviceFlags },
    examples: [
      ["exec-server service print --listen ws://127.0.0.1:8080", "a service"],
      ["exec-server service print --socket --listen unix:///run/exec.sock", "and its socket"]
    ]
  },
  ({ socket: hasSocket, runAs: user, directory }, { values }) =>
    Effect.gen(function* () {
      const { print } = yield* Effect.promise(() => import("./Service.js"))
      yield* print(ServerFlags.settingsOf(values), { hasSocket, user, directory })
    })
)

const service = Grammar.make(["service"], { summary: "Runs a server as a service of systemd.", flags: [] }, undefined, [
  servicePrint
])

const completion = Grammar.make(
  ["completion"],
  {
    summary: "Prints a completion script for a shell.",
    words: [{ name: "SHELL", help: `the shell: ${Completion.shells.join(", ")}`, choices: Completion.shells }],
    flags: [],
    examples: [
      ["source <(exec-server completion bash)", "in ~/.bashrc"],
      ["source <(exec-server completion zsh)", "in ~/.zshrc, after compinit"],
      ["exec-server completion fish | source", "in ~/.config/fish/config.fish"]
    ]
  },
  ({ words: [shell] }) => print(Completion.script(Completion.shells.find((one) => one === shell) ?? "bash", root))
)

const help = Grammar.make(
  ["help"],
  {
    summary: "Prints the help of a command, as --help does.",
    words: [
      {
        name: "COMMAND",
        help: "the command, such as run, or config print",
        isRepeated: true,
        choices: [...Commands.all, service, config, completion].map(({ path }) => path.join(" "))
      }
    ],
    flags: []
  },
  ({ words }) =>
    Effect.suspend(() => {
      const { command, left } = Grammar.commandOf(root, words)
      return left[0] === undefined ? printHelp(command) : refuse(Grammar.unknownCommand(command, left[0]))
    })
)

/**
 * Whether to print help: without arguments at a terminal, a server on stdio would wait there for protocol messages. A
 * variable or a file that sets `listen` or `remote` starts the server nevertheless.
 */
const wantsHelp = (values: CommandLine.Values, { listen, remote }: ServerConfig.Resolved) =>
  values.size === 0 && isatty(0) && [listen, remote].every(({ source }) => source === "default")

/** The root of the command tree: the server, and all commands below it. */
export const root: Grammar.Command = Grammar.make(
  [],
  {
    summary: "Starts and controls processes for the clients that connect to it.",
    note: "Without a command, runs a server: for one client on stdin and stdout, or for every client that connects to --listen. Each flag is also an environment variable and, in camel case, a key of the configuration file: --max-sessions, EXEC_SERVER_MAX_SESSIONS, maxSessions. A flag overrides the variable, and the variable overrides the file.",
    flags: [...Flag.ofServer, Flag.version],
    examples: [
      ["exec-server --listen ws://127.0.0.1:8080", "serve any number of clients"],
      ["exec-server run --url ws://127.0.0.1:8080 -- echo hello", "run a command there"]
    ]
  },
  ({ values }) =>
    Effect.flatMap(
      resolve(values),
      (resolved): Effect.Effect<void, unknown> =>
        wantsHelp(values, resolved)
          ? printHelp(root)
          : Effect.flatMap(
              Effect.promise(() => import("./Serve.js")),
              ({ serve }) =>
                serve(
                  ServerConfig.valuesOf(resolved),
                  ServerConfig.fileOf(ServerFlags.settingsOf(values).config, process.env)
                )
            )
    ),
  [...Commands.all, service, config, completion, help]
)

/**
 * Runs a command line; prints a usage error and exits with status 2 if it is wrong. Exits with status 141 if the output
 * is closed.
 */
export const run = (args: ReadonlyArray<string>): Effect.Effect<void, unknown> =>
  Effect.suspend((): Effect.Effect<void, unknown> => {
    const call = Grammar.parse(root, args)
    switch (call._tag) {
      case "Help":
        return printHelp(call.command)
      case "Version":
        return print(`${version}\n`)
      case "Mistake":
        return refuse(call.message)
      case "Run":
        return call.command.run?.(call.given) ?? printHelp(call.command)
    }
  }).pipe(Terminal.endIfClosed)
