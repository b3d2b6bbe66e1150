/**
 * The `exec-server` command, if it is to serve clients that connect to it: this program has no other command, no
 * remote mode and no tools for agents in it, and so starts sooner. Anything else, mistakes included, is left to `bin.ts`.
 *
 * @since 0.1.0
 */
import { isatty } from "node:tty"
import * as Option from "effect/Option"
import * as Program from "./command/Program.js"
import { serve } from "./command/Serve.js"
import * as ServerExit from "./command/ServerExit.js"
import * as ServerFlags from "./command/ServerFlags.js"
import * as ServerConfig from "./server/ServerConfig.js"
import { checkFlag } from "./upgrade/Token.js"

const args = process.argv.slice(2)
const isCheck = args[0] === checkFlag

// Without arguments at a terminal, `bin.ts` may print help.
const given = args.length === 0 && isatty(0) ? Option.none() : ServerFlags.readAlone(isCheck ? args.slice(1) : args)

const program = given.pipe(
  Option.flatMap(({ texts, config }) =>
    Option.map(Option.getRight(ServerConfig.load(texts, process.env, config)), (settings) => ({ settings, config }))
  ),
  Option.filter(({ settings: { remote, environmentId, mcp } }) => !mcp && (remote ?? environmentId) === undefined)
)

if (Option.isSome(program)) {
  const { settings, config } = program.value
  if (isCheck)
    void import("./command/UpgradeCheck.js").then(({ check }) => Program.run(check(args.slice(1)), process.exit))
  else Program.run(serve(settings, ServerConfig.fileOf(config, process.env)), ServerExit.exit)
} else void import("./bin.js")
