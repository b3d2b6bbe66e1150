/**
 * `service print`: prints units of systemd for a server with the flags that are given.
 *
 * @since 0.1.0
 */
import { writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as OsError from "../protocol/OsError.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { isSocketPath } from "../upgrade/Upgradable.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as ServerFlags from "./ServerFlags.js"
import * as Terminal from "./Terminal.js"
import * as Unit from "./Unit.js"

/** What is given besides the flags of the server. */
export interface Options extends Pick<Unit.Options, "user" | "hasSocket"> {
  /** Where to write the units; undefined to print them. */
  readonly directory: string | undefined
}

/** A setting as a flag. The service runs in another folder, so paths become absolute. */
const flagOf = (key: ServerConfig.Key, text: string): ReadonlyArray<string> => {
  const flag = `--${ServerConfig.flagName(key)}`
  const { placeholder } = ServerConfig.settings[key]
  if (ServerConfig.isSwitch(key)) return [text === "true" ? flag : `${flag}=${text}`]
  const isPath = placeholder === "FILE" || placeholder === "DIR" || (key === "controlSocket" && isSocketPath(text))
  const value = isPath ? resolve(text) : text
  return /^$|^-/.test(value) ? [`${flag}=${value}`] : [flag, value]
}

const flagsOf = ({ texts, config }: ServerFlags.Given): ReadonlyArray<string> => [
  ...(config === undefined ? [] : [`--${ServerFlags.fileFlag}`, resolve(config)]),
  ...ServerConfig.keys.flatMap((key) => {
    const text = key === "listen" ? undefined : texts[key]
    return text === undefined ? [] : flagOf(key, text)
  })
]

const unitsOf = (given: ServerFlags.Given, { user, hasSocket }: Options) =>
  Either.gen(function* () {
    // Of the environment of this command the service has nothing.
    const config = yield* ServerConfig.load(given.texts, {}, given.config)
    const listen = yield* ListenConfig.parse(config)
    const [, script = ""] = process.argv
    return yield* Either.mapLeft(
      Unit.make({
        config,
        listen,
        program: [process.execPath, script],
        flags: flagsOf(given),
        listenText: listen._tag === "WebSocket" ? config.listen : undefined,
        user,
        hasSocket
      }),
      (message) => new UsageError({ message })
    )
  })

const write = (directory: string, { file, text }: Unit.Unit) =>
  Effect.gen(function* () {
    const path = join(directory, file)
    yield* Effect.try({
      try: () => writeFileSync(path, text, { flag: "wx", mode: 0o644 }),
      catch: (error) => new CommandFailed({ message: `cannot write ${path}: ${OsError.describe(error)}` })
    })
    yield* Terminal.write("stdout", `${path}\n`)
  })

/** Prints the units, or writes them into a folder, where nothing is replaced. */
export const print = (given: ServerFlags.Given, options: Options) =>
  Effect.gen(function* () {
    const units = yield* unitsOf(given, options)
    const { directory } = options
    if (directory !== undefined)
      return yield* Effect.forEach(units, (unit) => write(directory, unit), { discard: true })
    const texts = units.map(({ file, text }) => (units.length === 1 ? text : `# ${file}\n${text}`))
    yield* Terminal.write("stdout", texts.join("\n"))
  })
