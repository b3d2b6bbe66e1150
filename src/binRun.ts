/**
 * The `exec-server` command, if it is to run a command on this machine: this program has no other command and no client
 * of another machine in it, and so starts sooner. Anything else, help and mistakes included, is left to `bin.ts`.
 *
 * @since 0.1.0
 */
import * as Grammar from "./command/Grammar.js"
import * as Program from "./command/Program.js"
import { run } from "./command/RunCommand.js"
import * as ServerExit from "./command/ServerExit.js"
import { endIfClosed } from "./command/Terminal.js"
import * as UrlVariable from "./command/UrlVariable.js"

const root = Grammar.make([], { summary: "", flags: [] }, undefined, [run])

const call = Grammar.parse(root, process.argv.slice(2))

/** Whether nothing names a server. */
const isLocal = ({ values }: Grammar.Given) =>
  !values.has("url") && !values.has("env") && UrlVariable.read() === undefined

const command = call._tag === "Run" && isLocal(call.given) ? call.command.run?.(call.given) : undefined

if (command === undefined) void import("./bin.js")
else Program.run(endIfClosed(command), ServerExit.exit)
