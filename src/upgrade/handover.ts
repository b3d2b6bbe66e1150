/**
 * The module that runs first when a server is replaced: one of the version before, so that no mistake of the new one
 * can keep it from noticing that. Until the new version reports that it has taken over, its failure makes this process
 * execute the version before again.
 *
 * The arguments are the entry of the new version, and those of the server.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Container from "./Container.js"
import * as Token from "./Token.js"

/** The calls of `native/upgrade.c` that matter here. */
interface Calls {
  readonly peek: (fd: number) => Buffer | number
  readonly arm: (
    file: string,
    argv: ReadonlyArray<string>,
    handover: string,
    kept: ReadonlyArray<number>,
    ms: number
  ) => number
  readonly disarm: () => number
  readonly closeOnExec: (fds: ReadonlyArray<number>) => number
  readonly giveUp: (reason: string) => number
}

/** The longest reason that the version before is told, in bytes. */
const maxReason = 160

const [, image = "", secret = "", failure] = /^(\d+),(\d+)(?:,(.*))?$/s.exec(process.env[Token.variable] ?? "") ?? []
delete process.env[Token.variable]

// The entry of the new version takes the place of this module.
process.argv.splice(1, 1)
const [, entry = "", first] = process.argv
const isCheck = first === Token.checkFlag

const calls = createRequire(__filename)(join(__dirname, "../src/spawn/native/build/Release/upgrade.node")) as Calls

let error: string | undefined
const onError = (thrown: unknown) => {
  error ??= thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown)
}
const giveUp = (reason: string) => {
  calls.giveUp(reason.replace(/[^ -~]+/g, " ").slice(0, maxReason))
}
const onExit = (status: number) => giveUp(error ?? `it has exited with status ${status}`)

const disarm = () => {
  calls.disarm()
  process.off("exit", onExit)
  process.off("uncaughtExceptionMonitor", onError)
}

if (!isCheck) {
  const { fallback, kept, deadlineMs } = Container.readBoot(Number(image))
  calls.closeOnExec(kept)
  if (failure === undefined) {
    process.on("exit", onExit)
    process.on("uncaughtExceptionMonitor", onError)
    calls.arm(fallback.file, fallback.argv, `${image},${secret}`, kept, deadlineMs)
  }
}

const secrets = calls.peek(Number(secret))
if (typeof secrets !== "number") Object.assign(process.env, JSON.parse(secrets.toString()).variables)

Token.leave({
  image: Number(image),
  secret: Number(secret),
  isCheck,
  failure,
  ...(isCheck || failure !== undefined ? { disarm: () => {} } : { disarm, giveUp })
})

void import(pathToFileURL(entry).href)
