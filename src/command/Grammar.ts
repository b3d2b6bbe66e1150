/**
 * Commands and the parser of the command line: it finds the called command and its arguments in a tree of commands, or
 * the first mistake.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { UsageError } from "./CommandExit.js"
import * as CommandLine from "./CommandLine.js"
import * as Flag from "./Flag.js"
import { nearest } from "./Nearest.js"

/** A positional argument of a command. */
export interface Word {
  readonly name: string
  readonly help: string
  /** Whether it may be given any number of times. */
  readonly isRepeated?: boolean
  /** The allowed values; for a repeated argument, values to complete. */
  readonly choices?: ReadonlyArray<string>
  /** Whether it is a path on this machine. */
  readonly isPath?: boolean
}

/** The arguments of a call. */
export interface Given {
  readonly values: CommandLine.Values
  readonly words: ReadonlyArray<string>
  /** The arguments after `--`. */
  readonly rest: ReadonlyArray<string>
}

/** An example command line and its description. */
export type Example = readonly [line: string, help: string]

/** The syntax and the help of a command. */
export interface Description {
  /** One sentence. */
  readonly summary: string
  readonly flags: ReadonlyArray<Flag.Flag>
  readonly words?: ReadonlyArray<Word>
  /** The placeholder of the arguments after `--`; without it, these count as positional arguments. */
  readonly rest?: string
  /** A paragraph of details. */
  readonly note?: string
  readonly examples?: ReadonlyArray<Example>
}

/** A command, or a group of commands. */
export interface Command extends Required<Omit<Description, "rest" | "note">> {
  /** Its name after the names of its groups: empty for the server, two names for `config print`. */
  readonly path: ReadonlyArray<string>
  readonly rest: string | undefined
  readonly note: string | undefined
  readonly commands: ReadonlyArray<Command>
  /** Runs the command; undefined for a group. */
  readonly run: ((given: Given) => Effect.Effect<void, unknown>) | undefined
}

/** The full name of a command: `exec-server config print`. */
export const nameOf = ({ path }: Pick<Command, "path">): string => ["exec-server", ...path].join(" ")

/** Makes a command, with `--help` added to its flags. */
export const make = (
  path: ReadonlyArray<string>,
  { words = [], examples = [], rest, note, summary, flags }: Description,
  run: Command["run"],
  commands: ReadonlyArray<Command> = []
): Command => ({ path, summary, note, words, examples, rest, commands, flags: [...flags, Flag.help], run })

/** The values of flags, by their keys in the command's definition. */
type ValuesOf<F> = { readonly [K in keyof F]: F[K] extends Flag.Flag<infer A> ? A : never }

/** Makes a command that gets the parsed values of its flags. */
export const typed = <F extends Readonly<Record<string, Flag.Flag>>>(
  path: ReadonlyArray<string>,
  description: Omit<Description, "flags"> & { readonly flags: F },
  run: (flags: ValuesOf<F>, given: Given) => Effect.Effect<void, unknown>,
  commands: ReadonlyArray<Command> = []
): Command => {
  const { flags } = description
  const parseAndRun = (given: Given) => {
    const read = Either.all(
      Object.entries(flags).map(([key, flag]) =>
        Either.map(flag.read(given.values.get(flag.name) ?? []), (value) => [key, value] as const)
      )
    )
    return Either.match(read, {
      onLeft: (message) => new UsageError({ message }),
      // The cast is safe: each value was parsed by its own flag.
      onRight: (values) => run(Object.fromEntries(values) as ValuesOf<F>, given)
    })
  }
  return make(path, { ...description, flags: Object.values(flags) }, parseAndRun, commands)
}

/** A command and all its subcommands. */
export const all = (command: Command): ReadonlyArray<Command> => [command, ...command.commands.flatMap(all)]

/** The flags of all commands, each name once: a flag has the same syntax in every command. */
export const flagsOf = (root: Command): ReadonlyArray<Flag.Flag> =>
  Array.from(new Map(all(root).flatMap(({ flags }) => flags.map((flag) => [flag.name, flag]))).values())

/** How to get a command's help. */
const seeHelp = (command: Command) => `\`${nameOf(command)} --help\``

/** Finds the command that the words call; `left` are its arguments. */
export const commandOf = (
  root: Command,
  words: ReadonlyArray<string>
): { readonly command: Command; readonly left: ReadonlyArray<string> } => {
  const found = root.commands.find(({ path }) => path.at(-1) === words[0])
  return found === undefined ? { command: root, left: words } : commandOf(found, words.slice(1))
}

/** The message for an unknown name. */
const unknown = (what: string, command: Command, suggestion: string | undefined) =>
  `unknown ${what}; ${suggestion === undefined ? `see ${seeHelp(command)}` : `did you mean ${suggestion}?`}`

/** The message for a word that is not a command. */
export const unknownCommand = (command: Command, word: string): string => {
  const names = command.commands.map(({ path }) => path.at(-1) ?? "")
  const suggestion = nearest(word, names)
  return unknown(`command \`${word}\``, command, suggestion === undefined ? undefined : `\`${suggestion}\``)
}

const unknownFlag = (root: Command, command: Command, { name, written }: CommandLine.FlagToken): string => {
  // Short flags are single letters, so `-word` is not looked up among the long flags.
  const isLong = written.startsWith("--")
  const owners = isLong ? all(root).filter(({ flags }) => flags.some((flag) => flag.name === name)) : []
  if (owners.length > 0) {
    const names = owners.map((owner) => `\`${nameOf(owner)}\``)
    return `${nameOf(command)} does not take ${written}, which is a flag of ${names.join(", ")}`
  }
  const names = command.flags.map((flag) => flag.name)
  const suggestion = isLong ? nearest(name, names) : undefined
  return unknown(`flag ${written}`, command, suggestion === undefined ? undefined : `--${suggestion}`)
}

const faultText = (root: Command, command: Command, { _tag, flag }: CommandLine.Fault): string => {
  const { written, value = "" } = flag
  switch (_tag) {
    case "Unknown":
      return unknownFlag(root, command, flag)
    case "Twice":
      return `${written} was given twice; give it once`
    case "NoValue":
      return `${written} needs a value`
    case "ValueIsFlag":
      return `${written} needs a value, but ${value} is a flag; if it is the value, write ${written}=${value}`
    case "NotBoolean":
      return `${written} must be true or false, not \`${value}\``
  }
}

/** The message for an unexpected argument, which may belong after `--`. */
const unexpected = (command: Command, word: string): string =>
  command.rest === undefined
    ? `unexpected argument \`${word}\`: ${nameOf(command)} takes ${command.words.map(({ name }) => name).join(" and ") || "no arguments"}`
    : `write the command to run after \`--\`: ${nameOf(command)} [FLAGS] -- ${word}`

const wordsMistake = (command: Command, words: ReadonlyArray<string>): string | undefined => {
  const isOpen = command.words.some(({ isRepeated }) => isRepeated === true)
  const extra = words[command.words.length]
  if (extra !== undefined && !isOpen) return unexpected(command, extra)
  for (const [index, { name, choices = [], isRepeated = false }] of command.words.entries()) {
    const word = words[index]
    if (word === undefined && !isRepeated) {
      return `${nameOf(command)} needs ${name}; see ${seeHelp(command)}`
    }
    if (word !== undefined && !isRepeated && choices.length > 0 && !choices.includes(word)) {
      return `${name} must be one of ${choices.join(", ")}, not \`${word}\``
    }
  }
  return undefined
}

/** A parsed command line. */
export type Call =
  | { readonly _tag: "Run"; readonly command: Command; readonly given: Given }
  | { readonly _tag: "Help"; readonly command: Command }
  | { readonly _tag: "Version" }
  | { readonly _tag: "Mistake"; readonly message: string }

/**
 * Parses a command line. `--help` and `--version` take effect anywhere before `--`, even if there are mistakes.
 */
export const parse = (root: Command, args: ReadonlyArray<string>): Call => {
  const end = args.indexOf("--")
  const front = end === -1 ? args : args.slice(0, end)
  const helps = new Set(["--help", "-h"])
  const forms = flagsOf(root)
  const { tokens, rest = [] } = CommandLine.split(forms, [
    ...front.filter((arg) => !helps.has(arg)),
    ...(end === -1 ? [] : args.slice(end))
  ])
  const words = tokens.flatMap((token) => (token._tag === "Word" ? [token.value] : []))
  const { command, left } = commandOf(root, words)
  if (front.some((arg) => helps.has(arg))) return { _tag: "Help", command }
  const isVersion = (token: CommandLine.FlagToken | CommandLine.WordToken) =>
    token._tag === "Flag" && token.name === Flag.version.name
  if (tokens.some(isVersion)) return { _tag: "Version" }

  const mistake = (message: string): Call => ({ _tag: "Mistake", message })
  // With an unknown command, only the flags before it can be checked.
  const [wrong] = command.commands.length > 0 ? left : []
  const at = tokens.findIndex((token) => token._tag === "Word" && token.value === wrong)
  const { values, fault } =
    at === -1 ? CommandLine.read(command.flags, tokens) : CommandLine.read(forms, tokens.slice(0, at))
  if (fault !== undefined) return mistake(faultText(root, command, fault))
  if (wrong !== undefined) return mistake(unknownCommand(command, wrong))
  if (command.run === undefined || values.get(Flag.help.name)?.[0] === "true") return { _tag: "Help", command }
  // Arguments after `--` are positional, unless the command takes a command line there.
  const given = { values, words: command.rest === undefined ? [...left, ...rest] : left, rest }
  const message = wordsMistake(command, given.words)
  return message === undefined ? { _tag: "Run", command, given } : mistake(message)
}
