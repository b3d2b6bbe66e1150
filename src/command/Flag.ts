/**
 * Flags: their syntax, their values and their help. Parser, help and completions all derive from these definitions.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { maxTimerMs } from "../internal/Timer.js"
import * as ServerConfig from "../server/ServerConfig.js"
import type { Form } from "./CommandLine.js"
import { fileFlag } from "./ServerFlags.js"

/** A flag of a command, whose value is an `A`. */
export interface Flag<out A = unknown> extends Form {
  /** The placeholder of its value in the help; shells complete FILE and DIR. Empty for a switch. */
  readonly placeholder: string
  /** The allowed values; empty if any value is allowed. */
  readonly choices: ReadonlyArray<string>
  /** Its default value in words, for the help; undefined if there is none. */
  readonly defaultText: string | undefined
  /** The environment variable that is used if the flag is not given. */
  readonly variable: string | undefined
  /** Its heading in the help. */
  readonly group: string
  /** What it does, in one line. */
  readonly help: string
  /** Parses the values it was given (empty if it was not given); Left says what is wrong. */
  readonly read: (texts: ReadonlyArray<string>) => Either.Either<A, string>
}

/** Optional properties of a flag. */
export interface Options {
  readonly short?: string
  readonly defaultText?: string
  readonly variable?: string
}

const make = <A>(
  { name, group, placeholder, help }: Pick<Flag, "name" | "group" | "placeholder" | "help">,
  { short, defaultText, variable }: Options,
  read: Flag<A>["read"]
): Flag<A> => ({
  name,
  short,
  isSwitch: placeholder === "",
  isRepeated: false,
  placeholder,
  choices: [],
  defaultText,
  variable,
  group,
  help,
  read
})

const refuse = (flag: string, text: string, expected: string) =>
  Either.left(`--${flag}: ${JSON.stringify(text)} is not ${expected}`)

/** A switch: a flag without a value. */
export const toggle = (name: string, group: string, help: string, options: Options = {}): Flag<boolean> =>
  make({ name, group, placeholder: "", help }, options, ([text]) => Either.right(text === "true"))

/** A flag with a string value. */
export const text = (
  name: string,
  placeholder: string,
  group: string,
  help: string,
  options: Options = {}
): Flag<string | undefined> => make({ name, group, placeholder, help }, options, ([text]) => Either.right(text))

/** A flag that may be repeated, each time with a string value. */
export const texts = (name: string, placeholder: string, group: string, help: string): Flag<ReadonlyArray<string>> => ({
  ...make({ name, group, placeholder, help }, {}, (texts) => Either.right(texts)),
  isRepeated: true
})

/** A flag with one of the given values. */
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

/** Gives a flag a default value. */
export const withDefault = <A>(flag: Flag<A>, value: NonNullable<A> & string): Flag<NonNullable<A>> => ({
  ...flag,
  defaultText: value,
  read: (texts) => Either.map(flag.read(texts), (given) => given ?? value)
})

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60000, h: 3600000 }

/** A flag with a duration such as `90`, `90s`, `1.5m` or `200ms`; its value is in milliseconds. */
export const duration = (name: string, group: string, help: string): Flag<number | undefined> =>
  make({ name, group, placeholder: "TIME", help }, {}, ([given]) => {
    if (given === undefined) return Either.right(undefined)
    const [, number, unit = "s"] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(given) ?? []
    const ms = Math.round(Number(number) * (unitMs[unit] ?? 0))
    return number !== undefined && ms >= 1 && ms <= maxTimerMs
      ? Either.right(ms)
      : refuse(name, given, "a time above 0, such as 90, 90s, 1.5m or 200ms")
  })

/** The flag of a setting. Its text is parsed by `ServerConfig`, once flag, variable and file are merged. */
export const ofSetting = (key: ServerConfig.Key): Flag<string | undefined> => {
  const { kind, choices, shown, help, group, placeholder } = ServerConfig.settings[key]
  const isSwitch = ServerConfig.isSwitch(key)
  const name = ServerConfig.flagName(key)
  // The help does not mention the defaults "off" and "none".
  const hasDefault = !isSwitch && (shown !== "none" || choices.includes(shown))
  const more = { variable: ServerConfig.variableName(key), ...(hasDefault ? { defaultText: shown } : {}) }
  const flag = { name, group, placeholder: isSwitch ? "" : placeholder, help }
  return {
    ...make(flag, more, ([text]) => Either.right(text)),
    choices: kind === "flag" && !isSwitch ? ["true", "false"] : choices
  }
}

/** The heading of flags that every command has. */
const otherFlags = "Other flags"

/** Every flag of the server. */
export const ofServer: ReadonlyArray<Flag> = [
  ...ServerConfig.keys.map(ofSetting),
  text(fileFlag, "FILE", "Configuration", "a TOML file with these settings by their keys, such as maxSessions = 16", {
    variable: ServerConfig.fileVariable
  })
]

/** Prints the help; every command has it. */
export const help = toggle("help", otherFlags, "print this help", { short: "h" })

/** Prints the version; every command accepts it, but only the server's help lists it. */
export const version = toggle("version", otherFlags, "print the version", { short: "V" })
