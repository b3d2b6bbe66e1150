/**
 * `run`: runs a command on this machine or on a server, as if it were local.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StartOptions } from "../client/ExecClient.js"
import { need, type ServerFeatures } from "../client/ServerFeatures.js"
import type { Environment } from "../environment/Environment.js"
import * as PlainText from "../internal/PlainText.js"
import { Exited, UsageError } from "./CommandExit.js"
import { interact } from "./Interact.js"
import * as RunLimits from "./RunLimits.js"
import { explain } from "./StartFailure.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `run`. */
export interface Options {
  readonly target: Target.Target
  readonly argv: ReadonlyArray<string>
  readonly tty: boolean
  readonly cwd: string | undefined
  /** In milliseconds. */
  readonly timeoutMs: number | undefined
  readonly limits: RunLimits.Flags
  /** Variables to set, as `NAME=VALUE`. */
  readonly set: ReadonlyArray<string>
  /** Leave the process running, and print how to attach to it. */
  readonly detach: boolean
  /** The name of the session that is left. */
  readonly name: string | undefined
  /** Keep the session that is left until it is ended. */
  readonly keep: boolean
  readonly id: string | undefined
  readonly json: boolean
}

/** Variables of the server and of this command that the process must not see (patterns). */
const secrets = ["EXEC_SERVER_*TOKEN", "CODEX_API_KEY"]

/** The terminal size if stdout is not a terminal. */
const defaultSize = { rows: 24, cols: 80 }

/** Tells the user that the original's terminals have a fixed size, if this terminal has another. */
const warnFixedSize = ({ server }: ServerFeatures) =>
  Effect.suspend(() => {
    const { rows, cols } = Terminal.size() ?? defaultSize
    return rows === defaultSize.rows && cols === defaultSize.cols
      ? Effect.void
      : Terminal.say(`${server} cannot resize terminals: the size is 24 rows by 80 columns`)
  })

const variables = (set: ReadonlyArray<string>): Effect.Effect<Record<string, string>, UsageError> =>
  Effect.map(
    Effect.forEach(set, (text) => {
      const [, name, value] = /^([^=]+)=([\s\S]*)$/.exec(text) ?? []
      return name === undefined || value === undefined
        ? new UsageError({ message: `--set ${text}: write NAME=VALUE` })
        : Effect.succeed([name, value] as const)
    }),
    Object.fromEntries
  )

/** The first unused id of `p1`, `p2`, ... The original cannot list processes, but then the session is new and empty. */
const freeId = ({ client }: Environment) =>
  Effect.map(
    client.features.extensions ? client.call("process/list", {}) : Effect.succeed({ processes: [] }),
    ({ processes }) => {
      const taken = new Set<string>(processes.map(({ processId }) => processId))
      let number = 1
      while (taken.has(`p${number}`)) number++
      return `p${number}`
    }
  )

/** Runs the command; exits with its status. */
export const run = (options: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { target, argv, tty, cwd, timeoutMs, set, detach, name, keep, json } = options
      if (argv.length === 0) {
        return yield* new UsageError({ message: "no command given: exec-server run [FLAGS] -- COMMAND [ARGUMENTS]" })
      }
      if (json && !detach) {
        return yield* new UsageError({
          message: "--json needs --detach: without it, the output is that of the command"
        })
      }
      if ((keep || name !== undefined) && !detach) {
        return yield* new UsageError({
          message: `--${keep ? "keep" : "name"} needs --detach: it is for the session that is left`
        })
      }
      const given = yield* variables(set)
      const limits = yield* RunLimits.read(options.limits)
      const environment = yield* Target.connect(target, {
        ...(limits === undefined ? {} : { capabilities: { exitUsage: true } }),
        ...(name === undefined ? {} : { name }),
        ...(keep ? { sessionTtl: "forever" } : {})
      })
      const { client, isLocal } = environment
      if (detach && isLocal) {
        const message = "--detach needs --url or --env: without a server, the process ends with this command"
        return yield* new UsageError({ message })
      }
      const { features } = client
      if (target.session !== undefined && options.id === undefined) {
        yield* need(features, features.extensions, "list its processes", "give an unused --id")
      }
      if (timeoutMs !== undefined) yield* need(features, features.extensions, "limit the time of a process (--timeout)")
      // If the server cannot close stdin, a pipe without input would keep programs waiting for EOF.
      const pipeStdin = !tty && (features.extensions || (yield* Terminal.hasInput))
      if (limits !== undefined) yield* need(features, features.extensions, "limit what a process uses")
      const term = process.env["TERM"] ?? "xterm-256color"
      const start: StartOptions = {
        processId: options.id ?? (yield* freeId(environment)),
        argv,
        cwd: Target.uriIn(environment, cwd ?? "."),
        env: { ...(tty ? { TERM: term } : {}), ...given },
        envPolicy: { inherit: "all", ignoreDefaultExcludes: true, exclude: secrets, set: {}, includeOnly: [] },
        tty,
        pipeStdin,
        ...(tty && features.extensions ? { size: Terminal.size() ?? defaultSize } : {}),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
        ...(limits === undefined ? {} : { limits })
      }
      if (tty && !features.extensions) yield* warnFixedSize(features)
      const [program = ""] = argv
      const remote = yield* Effect.catchTag(environment.processes.start(start), "ServerError", (failure) =>
        explain(failure, {
          program,
          cwd: start.cwd,
          displayCwd: Target.pathIn(environment, cwd ?? "."),
          getMetadata: environment.files.getMetadata
        })
      )
      if (!detach) {
        const code = yield* interact({ client, process: remote, tty, survives: false })
        return yield* new Exited({ code })
      }
      const { processId } = remote
      const { sessionId } = client
      yield* Terminal.write(
        "stdout",
        `${json ? PlainText.json({ sessionId, processId, pid: remote.pid }) : PlainText.plain(sessionId)}\n`
      )
      const command = `exec-server attach ${PlainText.quote(processId)} --session ${PlainText.quote(sessionId)} ${Target.flagsOf(target)}`
      yield* Terminal.say(`process ${processId} is running. To attach to it: ${command}`)
      const end = `exec-server kill ${PlainText.quote(sessionId)} ${Target.flagsOf(target)}`
      yield* Terminal.say(
        keep
          ? `the server keeps it until it is ended: ${end}`
          : "the server ends it if nobody attaches within its --detached-session-ttl-ms (default 30 s); --keep keeps it"
      )
    })
  )
