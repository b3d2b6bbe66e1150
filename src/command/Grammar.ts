/**
 * What a command is, and how a command line is understood by a tree of them: which command it calls and with what, or
 * the first mistake in it, in one sentence.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as CommandLine from "./CommandLine.js"
import * as Flag from "./Flag.js"
import { nearest } from "./Nearest.js"
import { UsageError } from "./Outcome.js"

/** A word that a command takes beside its flags. */
export interface Word {
  readonly name: string
  readonly help: string
  /** Whether there may be any number of it. */
  readonly isRepeated?: boolean
  /** The words that it can be; of one that is repeated, those that it can begin with. */
  readonly choices?: ReadonlyArray<string>
  /** Whether it is a path on this machine. */
  readonly isPath?: boolean
}

/** What a command was called with. */
export interface Given {
  readonly values: CommandLine.Values
  readonly words: ReadonlyArray<string>
  /** What followed `--`, of a command that has something there. */
  readonly rest: ReadonlyArray<string>
}

/** A line to try, and what it does. */
export type Example = readonly [line: string, help: string]

/** What there is to say of a command. */
export interface Description {
  /** In one sentence. */
  readonly summary: string
  readonly flags: ReadonlyArray<Flag.Flag>
  readonly words?: ReadonlyArray<Word>
  /** What follows `--`; without it, further words do. */
  readonly rest?: string
  /** What else there is to know, in a paragraph. */
  readonly note?: string
  readonly examples?: ReadonlyArray<Example>
}

/** A command, or a group of them. */
export interface Command extends Required<Omit<Description, "rest" | "note">> {
  /** Its name behind those it belongs to: none for the server, two for `config print`. */
  readonly path: ReadonlyArray<string>
  readonly rest: string | undefined
  readonly note: string | undefined
  readonly commands: ReadonlyArray<Command>
  /** Carries it out; a group has nothing to do itself. */
  readonly run: ((given: Given) => Effect.Effect<void, unknown>) | undefined
}

/** A command as it is called: `exec-server config print`. */
export const nameOf = ({ path }: Pick<Command, "path">): string => ["exec-server", ...path].join(" ")

/** A command; every one has `--help`. */
export const make = (
  path: ReadonlyArray<string>,
  { words = [], examples = [], rest, note, summary, flags }: Description,
  run: Command["run"],
  commands: ReadonlyArray<Command> = []
): Command => ({ path, summary, note, words, examples, rest, commands, flags: [...flags, Flag.help], run })

/** What flags give, by the names that a command has for them. */
type ValuesOf<F> = { readonly [K in keyof F]: F[K] extends Flag.Flag<infer A> ? A : never }

/** A command whose flags were read when it runs. */
export const typed = <F extends Readonly<Record<string, Flag.Flag>>>(
  path: ReadonlyArray<string>,
  description: Omit<Description, "flags"> & { readonly flags: F },
  run: (flags: ValuesOf<F>, given: Given) => Effect.Effect<void, unknown>
): Command =>
  make(path, { ...description, flags: Object.values(description.flags) }, (given) => {
    const read = Either.all(
      Object.entries(description.flags).map(([key, flag]) =>
        Either.map(flag.read(given.values.get(flag.name) ?? []), (value) => [key, value] as const)
      )
    )
    return Either.match(read, {
      onLeft: (message) => new UsageError({ message }),
      // Every value was read by its own flag.
      onRight: (values) => run(Object.fromEntries(values) as ValuesOf<F>, given)
    })
  })

/** A command and all below it. */
export const all = (command: Command): ReadonlyArray<Command> => [command, ...command.commands.flatMap(all)]

/** Every flag of every command, each name once: one name is read in one way everywhere. */
export const flagsOf = (root: Command): ReadonlyArray<Flag.Flag> =>
  Array.from(new Map(all(root).flatMap(({ flags }) => flags.map((flag) => [flag.name, flag]))).values())

/** Where there is more to read. */
const seeHelp = (command: Command) => `\`${nameOf(command)} --help\``

/** The command that words call, and the words that are left. */
export const commandOf = (
  root: Command,
  words: ReadonlyArray<string>
): { readonly command: Command; readonly left: ReadonlyArray<string> } => {
  const found = root.commands.find(({ path }) => path.at(-1) === words[0])
  return found === undefined ? { command: root, left: words } : commandOf(found, words.slice(1))
}

/** What to say of a name that is not there. */
const unknown = (what: string, command: Command, suggestion: string | undefined) =>
  `there is no ${what}; ${suggestion === undefined ? `${seeHelp(command)} shows those that there are` : `did you mean ${suggestion}?`}`

/** What to say of a word that names no command. */
export const unknownCommand = (command: Command, word: string): string => {
  const names = command.commands.map(({ path }) => path.at(-1) ?? "")
  const suggestion = nearest(word, names)
  return unknown(`command \`${word}\``, command, suggestion === undefined ? undefined : `\`${suggestion}\``)
}

const unknownFlag = (root: Command, command: Command, { name, written }: CommandLine.FlagToken): string => {
  // The names of short flags are letters: a word in one dash is not looked for among the long ones.
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
    case "Followed":
      return `${written} needs a value, and ${value} is a flag; if it is the value, write ${written}=${value}`
    case "NoTruth":
      return `${written} is true or false, and not \`${value}\``
  }
}

/** A word too many, which may be one that should stand behind `--`. */
const tooMany = (command: Command, word: string): string =>
  command.rest === undefined
    ? `\`${word}\` is a word too many: ${nameOf(command)} takes ${command.words.map(({ name }) => name).join(" and ") || "none"} beside flags`
    : `what to run stands behind \`--\`: ${nameOf(command)} [FLAGS] -- ${word}`

const wordsMistake = (command: Command, words: ReadonlyArray<string>): string | undefined => {
  const isOpen = command.words.some(({ isRepeated }) => isRepeated === true)
  const extra = words[command.words.length]
  if (extra !== undefined && !isOpen) return tooMany(command, extra)
  for (const [index, { name, choices = [], isRepeated = false }] of command.words.entries()) {
    const word = words[index]
    if (word === undefined && !isRepeated) {
      return `${nameOf(command)} needs ${name}; ${seeHelp(command)} says what that is`
    }
    if (word !== undefined && !isRepeated && choices.length > 0 && !choices.includes(word)) {
      return `${name} is one of ${choices.join(", ")}, and not \`${word}\``
    }
  }
  return undefined
}

/** What a command line asks for. */
export type Call =
  | { readonly _tag: "Run"; readonly command: Command; readonly given: Given }
  | { readonly _tag: "Help"; readonly command: Command }
  | { readonly _tag: "Version" }
  | { readonly _tag: "Mistake"; readonly message: string }

/**
 * Understands a command line. A call for help or for the version counts wherever it stands in front of `--`, beside
 * mistakes as well: who asks for help may have made some.
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
  // Of a line that calls no command, only what stands in front of the wrong word can be judged.
  const [wrong] = command.commands.length > 0 ? left : []
  const at = tokens.findIndex((token) => token._tag === "Word" && token.value === wrong)
  const { values, fault } =
    at === -1 ? CommandLine.read(command.flags, tokens) : CommandLine.read(forms, tokens.slice(0, at))
  if (fault !== undefined) return mistake(faultText(root, command, fault))
  if (wrong !== undefined) return mistake(unknownCommand(command, wrong))
  if (command.run === undefined || values.get(Flag.help.name)?.[0] === "true") return { _tag: "Help", command }
  // A word behind `--` is one that begins with a dash, unless the command has something else there.
  const given = { values, words: command.rest === undefined ? [...left, ...rest] : left, rest }
  const message = wordsMistake(command, given.words)
  return message === undefined ? { _tag: "Run", command, given } : mistake(message)
}
