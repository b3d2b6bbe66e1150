/**
 * Splits a command line into flags, words and the arguments after `--`.
 *
 * Every server loads this module at its start, so it imports only Node.js itself.
 *
 * @since 0.1.0
 */
import { parseArgs } from "node:util"

/** The syntax of a flag. */
export interface Form {
  /** Without the two dashes. */
  readonly name: string
  /** Its short form: one letter, without the dash. */
  readonly short: string | undefined
  /** Whether it takes no value. */
  readonly isSwitch: boolean
  /** Whether it may be given several times. */
  readonly isRepeated: boolean
}

/** A flag as it was given. */
export interface FlagToken {
  readonly _tag: "Flag"
  readonly name: string
  /** As it was written, with its dashes. */
  readonly written: string
  readonly value: string | undefined
  /** Whether the value is in the same word, after `=`. */
  readonly isInline: boolean
}

/** A word that is neither a flag nor the value of one. */
export interface WordToken {
  readonly _tag: "Word"
  readonly value: string
}

/** A command line, split. */
export interface Line {
  /** The flags and words before `--`, in order. */
  readonly tokens: ReadonlyArray<FlagToken | WordToken>
  /** The arguments after `--`; undefined if there is no `--`. */
  readonly rest: ReadonlyArray<string> | undefined
}

/** An error in the use of a flag. */
export type Fault =
  | { readonly _tag: "Unknown"; readonly flag: FlagToken }
  | { readonly _tag: "Twice"; readonly flag: FlagToken }
  | { readonly _tag: "NoValue"; readonly flag: FlagToken }
  /** The next word is a known flag, so probably not its value. */
  | { readonly _tag: "ValueIsFlag"; readonly flag: FlagToken }
  | { readonly _tag: "NotBoolean"; readonly flag: FlagToken }

/** The values of flags as texts, by name, in the order given; the value of a switch is `true` or `false`. */
export type Values = ReadonlyMap<string, ReadonlyArray<string>>

/** Splits a command line. An unknown flag counts as a switch. */
export const split = (forms: ReadonlyArray<Form>, args: ReadonlyArray<string>): Line => {
  const end = args.indexOf("--")
  const options = Object.fromEntries(
    forms.map(({ name, short, isSwitch }) => [
      name,
      { type: isSwitch ? "boolean" : "string", ...(short === undefined ? {} : { short }) } as const
    ])
  )
  const front = end === -1 ? args.slice() : args.slice(0, end)
  const { tokens } = parseArgs({ args: front, options, tokens: true, strict: false })
  return {
    tokens: tokens.flatMap((token): ReadonlyArray<FlagToken | WordToken> => {
      if (token.kind === "positional") return [{ _tag: "Word", value: token.value }]
      if (token.kind === "option-terminator") return []
      const { name, rawName: written, value, inlineValue: isInline = false } = token
      return [{ _tag: "Flag", name, written, value, isInline }]
    }),
    rest: end === -1 ? undefined : args.slice(end + 1)
  }
}

/** Whether a word is one of these flags in its long form. */
const flagIn = (forms: ReadonlyMap<string, Form>, word: string): boolean => {
  const [, name = ""] = /^--([^=]+)/.exec(word) ?? []
  return forms.has(name)
}

const faultOf = (forms: ReadonlyMap<string, Form>, values: Values, flag: FlagToken): Fault | undefined => {
  const { name, value, isInline } = flag
  const form = forms.get(name)
  if (form === undefined) return { _tag: "Unknown", flag }
  if (values.has(name) && !form.isRepeated) return { _tag: "Twice", flag }
  if (form.isSwitch)
    return value === undefined || /^(true|false)$/.test(value) ? undefined : { _tag: "NotBoolean", flag }
  // `--flag ""` has an empty value, which the flag itself may refuse. `--flag=` has none.
  if (value === undefined || (isInline && value === "")) return { _tag: "NoValue", flag }
  return !isInline && flagIn(forms, value) ? { _tag: "ValueIsFlag", flag } : undefined
}

/** Reads the flags among tokens; stops at the first fault. */
export const read = (
  forms: ReadonlyArray<Form>,
  tokens: Line["tokens"]
): { readonly values: Values; readonly fault: Fault | undefined } => {
  const known = new Map(forms.map((form) => [form.name, form]))
  const values = new Map<string, ReadonlyArray<string>>()
  for (const token of tokens) {
    if (token._tag === "Word") continue
    const fault = faultOf(known, values, token)
    if (fault !== undefined) return { values, fault }
    values.set(token.name, [...(values.get(token.name) ?? []), token.value ?? "true"])
  }
  return { values, fault: undefined }
}
