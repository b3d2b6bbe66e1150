/**
 * What a version answers that is asked whether it could take over: everything is loaded, the settings are read, and the
 * state is one that it can restore. Nothing is restored.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { version } from "../internal/Package.js"
import * as CarriedRegistration from "../remote/CarriedRegistration.js"
import * as CarriedCounters from "../server/CarriedCounters.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { SessionsState } from "../session/SessionsState.js"
import * as Posix from "../spawn/Posix.js"
import * as CarriedListener from "../transport/CarriedListener.js"
import * as PassedSockets from "../transport/PassedSockets.js"
import * as Checked from "../upgrade/Checked.js"
import * as ControlSocket from "../upgrade/ControlSocket.js"
import * as Native from "../upgrade/Native.js"
import * as State from "../upgrade/State.js"
import * as Token from "../upgrade/Token.js"
import * as Upgradable from "../upgrade/Upgradable.js"
import * as ServerFlags from "./ServerFlags.js"

/** It could not. The message says why. */
class CannotTakeOver extends Error {}

/** The schemas of the parts, by their names. The console has none: where it cannot read its state, it makes a new token. */
export const schemas = (): Readonly<Record<string, Schema.Schema.Any>> => ({
  [CarriedListener.part]: CarriedListener.schema(),
  [CarriedCounters.part]: CarriedCounters.schema(),
  [CarriedRegistration.part]: CarriedRegistration.Carried,
  [ControlSocket.part]: ControlSocket.schema(),
  [Upgradable.sessionsPart]: SessionsState
})

const refuse = (message: string) => new CannotTakeOver(message)

const checkParts = (parts: Readonly<Record<string, unknown>>, isSecret: boolean) => {
  for (const [name, schema] of Object.entries(schemas())) {
    if (!Object.hasOwn(parts, name)) continue
    const found = Schema.decodeUnknownEither(schema as Schema.Schema<unknown>)(parts[name])
    if (Either.isRight(found)) continue
    // The message of a schema has what was found.
    throw refuse(`the state of ${name} cannot be read${isSecret ? "" : `: ${found.left.message}`}`)
  }
}

/** Checks a server with these arguments, and says on stdout which version this is. Fails with a sentence if not. */
export const check = (args: ReadonlyArray<string>): Effect.Effect<void, Error> =>
  Effect.try({
    try: () => {
      const token = Token.find()
      if (token === undefined) throw refuse(`${Token.checkFlag} is what a running server asks; run exec-server upgrade`)
      const given = Option.getOrUndefined(ServerFlags.readAlone(args))
      if (given === undefined) throw refuse("its flags are not those of this version")
      const { texts, config } = given
      const settings = Either.getOrThrowWith(ServerConfig.load(texts, process.env, config), (error) => error)
      const { state, reader } = State.read(token.image)
      checkParts(state.parts, false)
      checkParts(State.parseSecrets(Native.peek(token.secret)).parts, true)
      const listener = state.parts[CarriedListener.part]
      const passed = settings.listen.startsWith("fd:")
        ? PassedSockets.adopted(listener === undefined ? undefined : { state: listener, reader })
        : undefined
      Either.getOrThrowWith(ListenConfig.parse(settings, passed), (error) => error)
      // Loads the native modules.
      Posix.pipe()
      Native.memory("check")
      process.stdout.write(Checked.line({ version, module: Checked.ownModule, node: process.version }))
    },
    catch: (error) => (error instanceof Error ? error : refuse(String(error)))
  })
