/**
 * The `exec-server` command: all of it.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Cli from "./command/Cli.js"
import * as Program from "./command/Program.js"
import * as ServerExit from "./command/ServerExit.js"
import * as ServerFlags from "./command/ServerFlags.js"
import { checkFlag } from "./upgrade/Token.js"

const args = process.argv.slice(2)

if (args[0] === checkFlag)
  void import("./command/UpgradeCheck.js").then(({ check }) => Program.run(check(args.slice(1)), process.exit))
else Program.run(Cli.run(args), Option.isSome(ServerFlags.readAlone(args)) ? ServerExit.exit : process.exit)
