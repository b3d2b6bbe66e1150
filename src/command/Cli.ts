/**
 * The whole command line: the server, the commands, their help, and mistakes.
 *
 * Loaded only where `ServerFlags` leaves something to it.
 *
 * @since 0.1.0
 */
import { isatty } from "node:tty"
import * as Effect from "effect/Effect"
import { version } from "../internal/Package.js"
import * as PlainText from "../internal/PlainText.js"
import * as ConfigPrint from "../server/ConfigPrint.js"
import * as ServerConfig from "../server/ServerConfig.js"
import type * as CommandLine from "./CommandLine.js"
import * as Commands from "./Commands.js"
import * as Completion from "./Completion.js"
import * as Flag from "./Flag.js"
import * as Grammar from "./Grammar.js"
import * as Help from "./Help.js"
import { Exited } from "./Outcome.js"
import { serve } from "./Serve.js"
import * as ServerFlags from "./ServerFlags.js"
import * as Terminal from "./Terminal.js"

/** 128 + SIGPIPE: what a program gets that writes to nobody. */
const brokenPipe = 141

const print = (text: string) =>
  Effect.catchTag(Terminal.write("stdout", text), "OutputClosed", () => new Exited({ code: brokenPipe }))

const printHelp = (command: Grammar.Command) =>
  Effect.suspend(() => print(Help.format(command, Help.styleOf(process.stdout, process.env))))

/** Says what is wrong with the command line, in one line whatever its words are. */
const refuse = (message: string) =>
  Effect.zipRight(Terminal.write("stderr", `${PlainText.plain(message)}\n`), new Exited({ code: 2 }))

/** The settings, and where they came from. */
const resolve = (values: CommandLine.Values) => {
  const { texts, config } = ServerFlags.settingsOf(values)
  return ServerConfig.resolve(texts, process.env, config)
}

const configPrint = Grammar.make(
  ["config", "print"],
  {
    summary: "Prints every setting and where it came from; secrets are masked.",
    note: "What is printed is a configuration file. Takes every flag of the server.",
    flags: Flag.ofServer,
    examples: [["exec-server config print --max-sessions 16 > exec-server.toml", "a file for --config"]]
  },
  ({ values }) => Effect.flatMap(resolve(values), (resolved) => print(ConfigPrint.format(resolved)))
)

const config = Grammar.make(["config"], { summary: "About settings.", flags: [] }, undefined, [configPrint])

const completion = Grammar.make(
  ["completion"],
  {
    summary: "Prints a script that completes this command line in a shell.",
    words: [{ name: "SHELL", help: `the shell: ${Completion.shells.join(", ")}`, choices: Completion.shells }],
    flags: [],
    examples: [
      ["source <(exec-server completion bash)", "in ~/.bashrc"],
      ["source <(exec-server completion zsh)", "in ~/.zshrc, behind compinit"],
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
        choices: [...Commands.all, config, completion].map(({ path }) => path.join(" "))
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
 * Somebody at a terminal who says nothing at all is helped: a server on stdio would wait for messages of the protocol.
 * Where a variable or a file says what to serve, it is served.
 */
const wantsHelp = (values: CommandLine.Values, { listen, remote }: ServerConfig.Resolved) =>
  values.size === 0 && isatty(0) && [listen, remote].every(({ source }) => source === "default")

/** The server, with all commands below it. */
export const root: Grammar.Command = Grammar.make(
  [],
  {
    summary: "Starts and controls processes for the clients that connect to it.",
    note: "Without a command it serves: one client on stdin and stdout, or all that connect to --listen. Each of its flags is also a variable and, in camel case, a key of the configuration file: --max-sessions, EXEC_SERVER_MAX_SESSIONS, maxSessions. The flag wins over the variable, and the variable over the file.",
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
        wantsHelp(values, resolved) ? printHelp(root) : serve(ServerConfig.valuesOf(resolved))
    ),
  [...Commands.all, config, completion, help]
)

/** Carries out a command line; of a mistake in it, which has been explained then, status 2 is left. */
export const run = (args: ReadonlyArray<string>): Effect.Effect<void, unknown> =>
  Effect.suspend(() => {
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
  })
