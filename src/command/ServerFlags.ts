/**
 * The flags of the server: its settings, and the configuration file.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as ServerConfig from "../server/ServerConfig.js"
import * as CommandLine from "./CommandLine.js"

/** Settings as texts, and the path of the configuration file. */
export interface Given {
  readonly texts: ServerConfig.Texts
  readonly config: string | undefined
}

/** The flag that names the configuration file. */
export const fileFlag = "config"

const form = (name: string, isSwitch: boolean): CommandLine.Form => ({
  name,
  short: undefined,
  isSwitch,
  isRepeated: false
})

/** The syntax of the server's flags. */
export const forms: ReadonlyArray<CommandLine.Form> = [
  ...ServerConfig.keys.map((key) => form(ServerConfig.flagName(key), ServerConfig.isSwitch(key))),
  form(fileFlag, false)
]

/** The settings among the flags that were given. */
export const settingsOf = (values: CommandLine.Values): Given => {
  const given = ServerConfig.keys.flatMap((key) => {
    const text = values.get(ServerConfig.flagName(key))?.[0]
    return text === undefined ? [] : [[key, text] as const]
  })
  return { texts: Object.fromEntries(given), config: values.get(fileFlag)?.[0] }
}

/**
 * The settings, if the arguments are nothing but valid server flags; otherwise none. Commands, help and mistakes are
 * left to `Cli`, which a server then does not load.
 */
export const readAlone = (args: ReadonlyArray<string>): Option.Option<Given> => {
  const { tokens, rest } = CommandLine.split(forms, args)
  const { values, fault } = CommandLine.read(forms, tokens)
  const isAlone = fault === undefined && rest === undefined && tokens.every(({ _tag }) => _tag === "Flag")
  return isAlone ? Option.some(settingsOf(values)) : Option.none()
}
