/**
 * What a flag is: how it is written and read, and what there is to say of it. Help, completions and the parser know of a
 * flag what stands here, and nothing else.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as ServerConfig from "../server/ServerConfig.js"
import type { Form } from "./CommandLine.js"
import { fileFlag } from "./ServerFlags.js"

/** A flag of a command, whose value is an `A`. */
export interface Flag<out A = unknown> extends Form {
  /** What stands for its value in the help; FILE and DIR are completed by shells. Empty for a switch. */
  readonly placeholder: string
  /** The words that it can have; none where it can have others. */
  readonly choices: ReadonlyArray<string>
  /** What it is without being given, in words; undefined if it is nothing. */
  readonly shown: string | undefined
  /** The environment variable that counts where it is not given. */
  readonly variable: string | undefined
  /** The heading that it stands under. */
  readonly group: string
  /** What it does, in one line. */
  readonly help: string
  /** Reads all values that it was given, none where it was not; fails with what is wrong. */
  readonly read: (texts: ReadonlyArray<string>) => Either.Either<A, string>
}

/** What differs from flag to flag. */
export interface Options {
  readonly short?: string
  readonly shown?: string
  readonly variable?: string
}

const make = <A>(
  { name, group, placeholder, help }: Pick<Flag, "name" | "group" | "placeholder" | "help">,
  { short, shown, variable }: Options,
  read: Flag<A>["read"]
): Flag<A> => ({
  name,
  short,
  isSwitch: placeholder === "",
  isRepeated: false,
  placeholder,
  choices: [],
  shown,
  variable,
  group,
  help,
  read
})

const refuse = (flag: string, text: string, expected: string) =>
  Either.left(`--${flag}: ${JSON.stringify(text)} is not ${expected}`)

/** A flag that takes no value. */
export const toggle = (name: string, group: string, help: string, options: Options = {}): Flag<boolean> =>
  make({ name, group, placeholder: "", help }, options, ([text]) => Either.right(text === "true"))

/** A flag with a text. */
export const text = (
  name: string,
  placeholder: string,
  group: string,
  help: string,
  options: Options = {}
): Flag<string | undefined> => make({ name, group, placeholder, help }, options, ([text]) => Either.right(text))

/** A flag that can be given several times, with a text each. */
export const texts = (name: string, placeholder: string, group: string, help: string): Flag<ReadonlyArray<string>> => ({
  ...make({ name, group, placeholder, help }, {}, (texts) => Either.right(texts)),
  isRepeated: true
})

/** A flag with one of a few words. */
export const choice = <const A extends string>(
  name: string,
  placeholder: string,
  choices: ReadonlyArray<A>,
  group: string,
  help: string,
  options: Options = {}
): Flag<A | undefined> => ({
  ...make({ name, group, placeholder, help }, options, ([text]) => {
    const found = choices.find((word) => word === text)
    return text === undefined || found !== undefined
      ? Either.right(found)
      : refuse(name, text, `one of ${choices.join(", ")}`)
  }),
  choices
})

/** The same flag with a value where it is not given. */
export const withDefault = <A>(flag: Flag<A>, value: NonNullable<A> & string): Flag<NonNullable<A>> => ({
  ...flag,
  shown: value,
  read: (texts) => Either.map(flag.read(texts), (given) => given ?? value)
})

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60000, h: 3600000 }

/** A flag with a time such as `90`, `90s`, `1.5m` or `200ms`; gives milliseconds. */
export const duration = (name: string, group: string, help: string): Flag<number | undefined> =>
  make({ name, group, placeholder: "TIME", help }, {}, ([given]) => {
    if (given === undefined) return Either.right(undefined)
    const [, number, unit = "s"] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(given) ?? []
    const ms = Math.round(Number(number) * (unitMs[unit] ?? 0))
    return number !== undefined && ms >= 1 && ms <= 2 ** 31 - 1
      ? Either.right(ms)
      : refuse(name, given, "a time above 0, such as 90, 90s, 1.5m or 200ms")
  })

/** The flag of a setting; its text is read with the others', when it is known which of them counts. */
const ofSetting = (key: ServerConfig.Key): Flag<string | undefined> => {
  const { kind, choices, shown, help, group, placeholder } = ServerConfig.settings[key]
  const isSwitch = ServerConfig.isSwitch(key)
  const name = ServerConfig.flagName(key)
  // What is off, or not there, until it is given need not be said to be so.
  const hasDefault = !isSwitch && (shown !== "none" || choices.includes(shown))
  const more = { variable: ServerConfig.variableName(key), ...(hasDefault ? { shown } : {}) }
  const flag = { name, group, placeholder: isSwitch ? "" : placeholder, help }
  return {
    ...make(flag, more, ([text]) => Either.right(text)),
    choices: kind === "flag" && !isSwitch ? ["true", "false"] : choices
  }
}

/** The heading of flags that go with everything. */
const otherFlags = "Other flags"

/** Every flag of the server. */
export const ofServer: ReadonlyArray<Flag> = [
  ...ServerConfig.keys.map(ofSetting),
  text(
    fileFlag,
    "FILE",
    "Configuration",
    "a TOML file with any of these settings by their keys, such as maxSessions = 16",
    { variable: ServerConfig.fileVariable }
  )
]

/** Shows the help; every command has it. */
export const help = toggle("help", otherFlags, "print this help", { short: "h" })

/** Shows the version; every command takes it, and the server's help shows it. */
export const version = toggle("version", otherFlags, "print the version")
