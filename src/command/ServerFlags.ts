/**
 * The command line of a server: its settings, and nothing else.
 *
 * Read with what Node.js has for it: loading @effect/cli and parsing with it would be a sixth of a server's start
 * (`node scratch/bench.mjs --only startup`). Whatever is not as plain as this, a subcommand, a call for help or a
 * mistake, is left to `Cli`, which knows the same flags.
 *
 * @since 0.1.0
 */
import { parseArgs } from "node:util"
import * as Option from "effect/Option"
import * as ServerConfig from "../server/ServerConfig.js"

/** Settings as texts, and the configuration file. */
export interface Given {
  readonly texts: ServerConfig.Texts
  readonly config: string | undefined
}

const { settings, keys, flagName, isSwitch } = ServerConfig

/** The flags, as `parseArgs` takes them. */
export const options: Readonly<Record<string, { readonly type: "boolean" | "string" }>> = {
  ...Object.fromEntries(keys.map((key) => [flagName(key), { type: isSwitch(key) ? "boolean" : "string" } as const])),
  config: { type: "string" }
}

const isAllowed = (key: ServerConfig.Key, text: string) =>
  text !== "" && (settings[key].kind !== "choice" || settings[key].choices.includes(text))

/** What was given, if it is settings alone, each of them once and with a value that it can have. */
export const read = (args: ReadonlyArray<string>): Option.Option<Given> => {
  try {
    const { values, tokens } = parseArgs({ args: [...args], options, tokens: true })
    if (tokens.some(({ kind }) => kind !== "option") || tokens.length !== Object.keys(values).length) {
      return Option.none()
    }
    const { config, ...flags } = values as { readonly [name: string]: string | boolean | undefined }
    const given = keys.filter((key) => flags[flagName(key)] !== undefined)
    const texts = Object.fromEntries(given.map((key) => [key, String(flags[flagName(key)])]))
    return given.every((key) => isAllowed(key, texts[key] ?? "")) && config !== ""
      ? Option.some({ texts, config: config === undefined ? undefined : String(config) })
      : Option.none()
  } catch {
    return Option.none()
  }
}
