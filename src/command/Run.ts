/**
 * `run`: a command somewhere else, as if it were here.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StartOptions } from "../client/ExecClient.js"
import { need, type ServerFeatures } from "../client/ServerFeatures.js"
import type { Environment } from "../environment/Environment.js"
import * as PlainText from "../internal/PlainText.js"
import { interact } from "./Interact.js"
import { Exited, UsageError } from "./Outcome.js"
import { explain } from "./StartFailure.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** What to run, and how. */
export interface Options {
  readonly target: Target.Target
  readonly argv: ReadonlyArray<string>
  readonly tty: boolean
  readonly cwd: string | undefined
  /** In milliseconds. */
  readonly timeoutMs: number | undefined
  /** Variables to set, as `NAME=VALUE`. */
  readonly set: ReadonlyArray<string>
  /** Leave it running, and say how to come back. */
  readonly detach: boolean
  readonly id: string | undefined
  readonly json: boolean
}

/** Variables of the server, and of this command, that are nobody else's business. */
const secrets = ["EXEC_SERVER_*TOKEN", "CODEX_API_KEY"]

/** The size of a terminal that nobody looks at. */
const defaultSize = { rows: 24, cols: 80 }

/** The original's terminals have one size. */
const sayFixedSize = ({ server }: ServerFeatures) =>
  Effect.suspend(() => {
    const { rows, cols } = Terminal.size() ?? defaultSize
    return rows === defaultSize.rows && cols === defaultSize.cols
      ? Effect.void
      : Terminal.say(`${server} cannot give a terminal the size of this one: it has 24 rows of 80 columns`)
  })

const variables = (set: ReadonlyArray<string>): Effect.Effect<Record<string, string>, UsageError> =>
  Effect.map(
    Effect.forEach(set, (text) => {
      const [, name, value] = /^([^=]+)=([\s\S]*)$/.exec(text) ?? []
      return name === undefined || value === undefined
        ? new UsageError({ message: `--set ${text}: a variable is set with NAME=VALUE` })
        : Effect.succeed([name, value] as const)
    }),
    Object.fromEntries
  )

/** `p1`, or what follows. The original does not list processes; a session that was just made has none. */
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

/** Runs it; ends with its status. */
export const run = (options: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { target, argv, tty, cwd, timeoutMs, set, detach, json } = options
      if (argv.length === 0) {
        return yield* new UsageError({ message: "no command is given: exec-server run [FLAGS] -- COMMAND [ARGUMENTS]" })
      }
      if (json && !detach) {
        return yield* new UsageError({ message: "--json needs --detach: otherwise the output is the command's own" })
      }
      const given = yield* variables(set)
      const environment = yield* Target.connect(target)
      const { client, isLocal } = environment
      if (detach && isLocal) {
        const message = "--detach needs --url or --env: without a server, nothing outlives this command"
        return yield* new UsageError({ message })
      }
      const { features } = client
      if (target.session !== undefined && options.id === undefined) {
        yield* need(features, features.extensions, "list its processes", "give --id, which no other process has")
      }
      if (timeoutMs !== undefined) yield* need(features, features.extensions, "end a process after a time (--timeout)")
      // Without a way to end the input, a program that has none must not be made to wait for its end.
      const pipeStdin = !tty && (features.extensions || (yield* Terminal.hasInput))
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
        ...(timeoutMs === undefined ? {} : { timeoutMs })
      }
      if (tty && !features.extensions) yield* sayFixedSize(features)
      const [program = ""] = argv
      const remote = yield* Effect.catchTag(environment.processes.start(start), "ServerError", (failure) =>
        explain(failure, {
          program,
          cwd: start.cwd,
          cwdShown: Target.pathIn(environment, cwd ?? "."),
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
      yield* Terminal.say(`process ${processId} runs on. To come back to it: ${command}`)
      yield* Terminal.say("the server ends it if nobody does for as long as its --detached-session-ttl-ms says (30 s)")
    })
  )
