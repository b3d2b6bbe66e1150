/**
 * What is wrong with a command line, in words. @effect/cli takes a flag that it cannot read for a subcommand that there
 * is not, or for a word too many.
 *
 * @since 0.1.0
 */
import { parseArgs } from "node:util"
import type { Named, Usage } from "@effect/cli/Usage"
import * as Option from "effect/Option"

/** A flag, as `parseArgs` takes it. */
interface Flag {
  readonly type: "boolean" | "string"
  readonly short?: string
  readonly multiple?: boolean
}

/** What a command takes. */
export interface Form {
  /** As it is called: `exec-server config print`. */
  readonly path: string
  readonly flags: Readonly<Record<string, Flag>>
  /** What its words beside flags are, in their order. */
  readonly words: ReadonlyArray<string>
  /** Its subcommands, by name. */
  readonly commands: ReadonlyMap<string, Form>
}

/** Flags of @effect/cli's own, which go with everything. */
const builtIn: ReadonlySet<string> = new Set(["help", "h", "version", "wizard", "completions"])

/** What @effect/cli reads as true or false. */
const truths: ReadonlySet<string> = new Set(["true", "1", "y", "yes", "on", "false", "0", "n", "no", "off"])

/** The names that make up a usage, and whether each may come several times. */
const namesOf = (usage: Usage, multiple = false): ReadonlyArray<Named & { readonly multiple: boolean }> => {
  switch (usage._tag) {
    case "Concat":
    case "Alternation":
      return [...namesOf(usage.left, multiple), ...namesOf(usage.right, multiple)]
    case "Optional":
      return namesOf(usage.usage, multiple)
    case "Repeated":
      return namesOf(usage.usage, true)
    case "Named":
      return [{ ...usage, multiple }]
    case "Empty":
    case "Mixed":
      return []
  }
}

/** The name of a command without subcommands, and what @effect/cli knows that it takes. */
export const formOf = (parent: string, usage: Usage): readonly [name: string, form: Form] => {
  const [command, ...taken] = namesOf(usage)
  const name = command?.names[0] ?? ""
  const flags: Record<string, Flag> = {}
  for (const { names, acceptedValues, multiple } of taken) {
    const long = names.find((name) => name.startsWith("--"))
    const short = names.find((name) => /^-[^-]$/.test(name))
    if (long === undefined) continue
    const type = Option.isSome(acceptedValues) ? "string" : "boolean"
    flags[long.slice(2)] = { type, multiple, ...(short === undefined ? {} : { short: short.slice(1) }) }
  }
  const words = taken.flatMap(({ names }) => names.flatMap((name) => /^<(.*)>$/.exec(name)?.[1] ?? []))
  return [name, { path: `${parent} ${name}`, flags, words, commands: new Map() }]
}

/** The command that a line calls, as words such as `config print`; none for the server. */
export const commandOf = (form: Form, args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const { tokens } = parseArgs({ args: [...args], options: form.flags, tokens: true, strict: false })
  for (const token of tokens) {
    if (token.kind !== "positional") continue
    const command = form.commands.get(token.value)
    if (command !== undefined) return [token.value, ...commandOf(command, args.slice(token.index + 1))]
  }
  return []
}

const ofSwitch = (flag: string, value: string | undefined): string | undefined =>
  value === undefined || truths.has(value) ? undefined : `${flag} is true or false, and not \`${value}\``

/** An empty word is a value, which the setting itself refuses; nothing behind "=" is none. */
const ofValue = (flag: string, value: string | undefined, isInline: boolean): string | undefined =>
  value === undefined || (isInline && value === "") ? `${flag} needs a value` : undefined

/** A word too many, which may be one that should stand behind `--`. */
const ofWord = ({ path, words }: Form, word: string): string =>
  path === "exec-server run"
    ? `what to run stands behind \`--\`: exec-server run [FLAGS] -- ${word}`
    : `\`${word}\` is a word too many: ${path} takes ${words.join(" and ") || "none"} beside flags`

/** The first mistake, in a sentence; undefined where there is none, or only one that @effect/cli has the words for. */
export const find = (form: Form, args: ReadonlyArray<string>): string | undefined => {
  const { path, words, commands } = form
  const flags = new Map(Object.entries(form.flags))
  const { tokens } = parseArgs({ args: [...args], options: form.flags, tokens: true, strict: false })
  const seen = new Set<string>()
  let wordsSeen = 0
  let last: Flag | undefined
  for (const token of tokens) {
    if (token.kind === "option-terminator") return undefined
    if (token.kind === "positional") {
      const { value, index } = token
      const isTruth = last?.type === "boolean" && truths.has(value)
      last = undefined
      if (isTruth) continue
      if (commands.size > 0) {
        const command = commands.get(value)
        if (command !== undefined) return find(command, args.slice(index + 1))
        return `there is no command \`${value}\`; \`${path} --help\` shows those that there are`
      }
      if (++wordsSeen > words.length) return ofWord(form, value)
      continue
    }
    if (builtIn.has(token.name)) return undefined
    const { name, rawName, value, inlineValue = false } = token
    const flag = flags.get(name.toLowerCase())
    if (flag === undefined) return `there is no flag ${rawName}; \`${path} --help\` shows those that there are`
    if (seen.has(name) && flag.multiple !== true) return `${rawName} was given twice; give it once`
    seen.add(name)
    // In capitals it is a flag too, but its value is no part of it here.
    if (!flags.has(name)) return undefined
    const mistake = flag.type === "boolean" ? ofSwitch(rawName, value) : ofValue(rawName, value, inlineValue)
    if (mistake !== undefined) return mistake
    last = inlineValue ? undefined : flag
  }
  const [missing] = words.slice(wordsSeen)
  return missing === undefined ? undefined : `${path} needs ${missing}; \`${path} --help\` says what that is`
}
