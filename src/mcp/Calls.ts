/**
 * Carries out the calls of tools.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import { ExecFailure } from "./ExecFailure.js"
import * as Machines from "./Machines.js"
import { type Fields, read, type ValuesOf } from "./Parameters.js"
import * as Replies from "./Replies.js"
import * as TextFiles from "./TextFiles.js"
import * as Tools from "./Tools.js"
import * as UnifiedExec from "./UnifiedExec.js"

/** The content of an answer. */
export type Content = TextFiles.Content

/** The answer of a call. */
export interface Answer {
  readonly content: ReadonlyArray<Content>
  /** The call could not be carried out. The exit code of a command is no such error. */
  readonly isError?: true
}

/** A call in progress, for its progress. */
export interface Progress {
  /** The last line of the command that is waited for. */
  readonly lastLine: () => string
}

/** The calls of one connection. */
export interface Calls {
  readonly tools: ReadonlyArray<Tools.Tool>
  /**
   * Carries out a call; undefined if there is no such tool. Interruption ends a command that it has started, and so does
   * the scope `within`, if one is given.
   */
  readonly call: (name: string, given: unknown, watch: Watch, within?: Scope.Scope) => Effect.Effect<Answer> | undefined
}

/** Hears which command a call is about, once that is known. */
export type Watch = (progress: Progress) => void

/** What is offered. */
export interface Options {
  /** The environments, the default one first. */
  readonly sources: readonly [Machines.Source, ...ReadonlyArray<Machines.Source>]
  readonly tools: Tools.Selection
  /** Whether the shell reads the profile of the user. */
  readonly login: boolean
  /** What the commands share with those of others. */
  readonly shared?: UnifiedExec.Shared | undefined
}

const text = (text: string): Content => ({ type: "text", text })

/** The answer of a call that could not be carried out, and why. */
export const failed = (message: string): Answer => ({ content: [text(Replies.failed(message))], isError: true })

const { commandTools, fileTools } = Tools

/** Who calls: hears which command it is about, and owns what it starts. */
interface By {
  readonly watch: Watch
  readonly within: Scope.Scope | undefined
}

/** Makes the calls; the scope ends all commands. Nothing is started or connected before the first call. */
export const make = ({ sources, tools: selection, login, shared }: Options): Effect.Effect<Calls, never, Scope.Scope> =>
  Effect.gen(function* () {
    const machines = yield* Machines.make(sources)
    const exec = yield* UnifiedExec.make({ login, shared })
    const ids = sources.map(({ id }) => id)
    const [{ id: defaultId }] = sources
    const handlers = new Map<string, (given: unknown, by: By) => Effect.Effect<Content, ExecFailure>>()

    /** The environment of a call, which is an argument only if there are several. */
    const environmentOf = (values: unknown): string | undefined =>
      (values as { readonly environment?: string }).environment

    const handle = <F extends Fields>(
      tool: Tools.Tool<F>,
      run: (
        values: ValuesOf<F>,
        environment: string | undefined,
        by: By
      ) => Effect.Effect<Content | string, ExecFailure>
    ) => {
      const fields = Tools.fieldsOf(tool, ids)
      handlers.set(tool.name, (given, by) =>
        Either.match(read(tool.name, fields, given), {
          onLeft: (message) => new ExecFailure({ message }),
          onRight: (values) =>
            Effect.map(
              // The cast is safe: `fields` are those of the tool, and perhaps one more.
              run(values as ValuesOf<F>, environmentOf(values), by),
              (content) => (typeof content === "string" ? text(content) : content)
            )
        })
      )
    }

    const filesOf = (environment = defaultId) => Effect.map(machines(environment), ({ files }) => files)

    /** Refuses a command of another environment than the one that was given. */
    const checkPlace = (sessionId: number, environment: string | undefined) =>
      environment === undefined
        ? Effect.void
        : Effect.flatMap(exec.list, (all) => {
            const found = all.find((one) => one.sessionId === sessionId)
            return found === undefined || found.environment === environment
              ? Effect.void
              : new ExecFailure({
                  message: `session ${sessionId} is in the environment ${found.environment}, not in ${environment}`
                })
          })

    const ofSession = <A>(
      sessionId: number,
      environment: string | undefined,
      watch: Watch,
      run: Effect.Effect<A, ExecFailure>
    ) =>
      Effect.suspend(() => {
        watch({ lastLine: () => exec.lastLine(sessionId) })
        return Effect.zipRight(checkPlace(sessionId, environment), run)
      })

    handle(commandTools.execCommand, (values, environment = defaultId, { watch, within }) =>
      Effect.gen(function* () {
        const machine = yield* machines(environment)
        const report = yield* exec.execCommand(machine, {
          cmd: values.cmd,
          workdir: values.workdir,
          tty: values.tty,
          timeoutMs: values.timeout_ms,
          yieldTimeMs: values.yield_time_ms,
          maxOutputTokens: values.max_output_tokens,
          within,
          onStarted: (sessionId) => watch({ lastLine: () => exec.lastLine(sessionId) })
        })
        return Replies.report(report, "ifUseful")
      })
    )

    handle(commandTools.writeStdin, (values, environment, { watch }) =>
      ofSession(
        values.session_id,
        environment,
        watch,
        Effect.map(
          exec.writeStdin(values.session_id, {
            chars: values.chars,
            keys: values.keys,
            closeStdin: values.close_stdin,
            yieldTimeMs: values.yield_time_ms,
            maxOutputTokens: values.max_output_tokens
          }),
          (report) => Replies.report(report, "always")
        )
      )
    )

    handle(commandTools.readOutput, (values, environment, { watch }) => {
      const { session_id, offset, max_output_tokens: maxOutputTokens } = values
      const reading =
        offset === undefined
          ? Effect.map(
              exec.readOutput(session_id, {
                waitFor: values.wait_for,
                yieldTimeMs: values.yield_time_ms,
                maxOutputTokens
              }),
              (report) => Replies.report(report, "always")
            )
          : Effect.map(exec.readAt(session_id, offset, { maxOutputTokens }), Replies.part)
      return ofSession(session_id, environment, watch, reading)
    })

    handle(commandTools.readScreen, ({ session_id, rows, cols }, environment, { watch }) => {
      if ((rows === undefined) !== (cols === undefined)) {
        return new ExecFailure({ message: "rows and cols are given together, or not at all" })
      }
      const size = rows === undefined || cols === undefined ? undefined : { rows, cols }
      const shown = Effect.map(exec.readScreen(session_id, size), (screen) => Replies.screen(session_id, screen))
      return ofSession(session_id, environment, watch, shown)
    })

    handle(commandTools.killSession, ({ session_id, signal }, environment, { watch }) => {
      const killed = exec.kill(session_id, signal)
      const report = Effect.map(killed, (report) => Replies.report(report, "always"))
      return ofSession(session_id, environment, watch, report)
    })

    handle(commandTools.listSessions, (_, environment) =>
      Effect.map(exec.list, (all) =>
        Replies.list(
          all.filter((one) => environment === undefined || one.environment === environment),
          ids.length === 1
        )
      )
    )

    if (selection === "all") {
      handle(fileTools.readFile, ({ path, offset, limit }, environment) =>
        Effect.flatMap(filesOf(environment), (files) => TextFiles.read(files, path, offset, limit))
      )
      handle(fileTools.writeFile, ({ path, content }, environment) =>
        Effect.flatMap(filesOf(environment), (files) => TextFiles.write(files, path, content))
      )
      handle(fileTools.editFile, ({ path, old_text, new_text, replace_all = false }, environment) =>
        Effect.flatMap(filesOf(environment), (files) => TextFiles.edit(files, path, old_text, new_text, replace_all))
      )
    }

    return {
      tools: Tools.offered(selection),
      call: (name, given, watch, within) =>
        handlers
          .get(name)?.(given, { watch, within })
          .pipe(
            Effect.map((content): Answer => ({ content: [content] })),
            Effect.catchAll(({ message }) => Effect.succeed(failed(message)))
          )
    }
  })
