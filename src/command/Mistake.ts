/**
 * What is wrong with a server's flags. @effect/cli takes a flag that it cannot read for a subcommand that there is not.
 *
 * @since 0.1.0
 */
import { parseArgs } from "node:util"
import * as ServerFlags from "./ServerFlags.js"

/** Flags of @effect/cli's own, which go with everything. */
const builtIn: ReadonlySet<string> = new Set(["help", "h", "version", "wizard", "completions"])

const flags = new Map(Object.entries(ServerFlags.options))

/** What @effect/cli reads as true or false. */
const truths: ReadonlySet<string> = new Set(["true", "1", "y", "yes", "on", "false", "0", "n", "no", "off"])

const ofSwitch = (flag: string, value: string | undefined): string | undefined =>
  value === undefined || truths.has(value) ? undefined : `${flag} is true or false, and not \`${value}\``

/** An empty word is a value, which the setting itself refuses; nothing behind "=" is none. */
const ofValue = (flag: string, value: string | undefined, isInline: boolean): string | undefined =>
  value === undefined || (isInline && value === "") ? `${flag} needs a value` : undefined

/** The first mistake, in a sentence; undefined where there is none, or where a subcommand comes first. */
export const find = (args: ReadonlyArray<string>): string | undefined => {
  const { tokens } = parseArgs({ args: [...args], options: ServerFlags.options, tokens: true, strict: false })
  const seen = new Set<string>()
  for (const token of tokens) {
    if (token.kind !== "option" || builtIn.has(token.name)) return undefined
    const { name, rawName, value, inlineValue = false } = token
    const flag = flags.get(name.toLowerCase())
    if (flag === undefined) return `there is no flag ${rawName}; \`exec-server --help\` shows those that there are`
    if (seen.has(name)) return `${rawName} was given twice; give it once`
    seen.add(name)
    // In capitals it is a flag too, but its value is no part of it here.
    if (!flags.has(name)) return undefined
    const mistake = flag.type === "boolean" ? ofSwitch(rawName, value) : ofValue(rawName, value, inlineValue)
    if (mistake !== undefined) return mistake
  }
  return undefined
}
