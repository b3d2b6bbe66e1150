/**
 * The SESSION[/PROCESS] argument of a command. SESSION is a name, a handle, the beginning of one, or the id that
 * `run --detach` prints. With `--session`, the argument is a process of that session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ClientError } from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import type { Environment } from "../environment/Environment.js"
import * as PlainText from "../internal/PlainText.js"
import type { SessionInfo } from "../protocol/ExecApi.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Target from "./Target.js"

/** A resolved argument. */
export interface Reference {
  readonly environment: Environment
  /** The handle of the session; undefined for the session of the connection. */
  readonly session: string | undefined
  /** The process; undefined if the argument names only a session. */
  readonly processId: string | undefined
}

/** A resolved argument that names a process. */
export interface ProcessReference extends Reference {
  readonly processId: string
}

/** A session id, which resumes its session. */
const isSessionId = (text: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)

/** A handle. It needs no list of sessions, which tokens for one process do not permit. */
const isHandle = (text: string) => /^s-[0-9a-f]{8}$/.test(text)

/** Splits SESSION[/PROCESS]. Names of sessions have no slash; ids of processes may. */
const split = (text: string): readonly [session: string, processId: string | undefined] => {
  const slash = text.indexOf("/")
  return slash === -1 ? [text, undefined] : [text.slice(0, slash), text.slice(slash + 1)]
}

const nameOf = ({ session, name }: SessionInfo) => (name === null ? session : `${name} (${session})`)

/** Finds a session: by its name or handle, else by the beginning of one. */
const find = (sessions: ReadonlyArray<SessionInfo>, text: string): Effect.Effect<SessionInfo, CommandFailed> => {
  const others = sessions.filter(({ own }) => !own)
  const exact = others.filter(({ session, name }) => session === text || name === text)
  const matches =
    exact.length > 0
      ? exact
      : others.filter(({ session, name }) => session.startsWith(text) || name?.startsWith(text) === true)
  const [match] = matches
  if (match !== undefined && matches.length === 1) return Effect.succeed(match)
  const quoted = PlainText.quote(text)
  if (match !== undefined) {
    const names = matches.map(nameOf).join(", ")
    return new CommandFailed({ message: `${quoted} may be one of several sessions: ${names}` })
  }
  return new CommandFailed({
    message:
      others.length === 0
        ? `no session ${quoted} is visible; a client sees only its own: give the session id, or --token-file with the token of a viewer or an operator`
        : `no session ${quoted}; there are ${others.map(nameOf).join(", ")}`
  })
}

/** The handle of the session that a connection has. */
export const ownOf = ({ sessions }: ExecClient.Shape): Effect.Effect<string, ClientError | CommandFailed> =>
  Effect.flatMap(sessions.list, (all) => {
    const own = all.find(({ own }) => own)?.session
    return own === undefined
      ? new CommandFailed({ message: "the server does not list the session" })
      : Effect.succeed(own)
  })

/** The process of an argument. One that names only a session stands for its only running process. */
export const processOf = ({
  environment: { client },
  session,
  processId
}: Reference): Effect.Effect<string, ClientError | CommandFailed> =>
  Effect.gen(function* () {
    if (processId !== undefined) return processId
    const all = yield* client.sessions.processes(session ?? (yield* ownOf(client)))
    const running = all.filter(({ running }) => running)
    const [only] = running
    if (only !== undefined && running.length === 1) return only.processId
    const names = running.map(({ processId }) => PlainText.quote(processId)).join(", ")
    return yield* new CommandFailed({
      message: only === undefined ? "the session has no running process" : `write SESSION/PROCESS with one of ${names}`
    })
  })

/** Connects to the target, and resolves the argument. */
export const resolve = (
  target: Target.Target,
  text: string
): Effect.Effect<Reference, Target.TargetError | ClientError | CommandFailed, Scope.Scope> =>
  Effect.gen(function* () {
    if (target.session !== undefined) {
      return { environment: yield* Target.connect(target), session: undefined, processId: text }
    }
    const [name, processId] = split(text)
    if (processId === "") return yield* new UsageError({ message: `${PlainText.quote(text)}: write SESSION/PROCESS` })
    if (isSessionId(name)) {
      return { environment: yield* Target.connect({ ...target, session: name }), session: undefined, processId }
    }
    yield* Target.needRemote(target, "of the session")
    const environment = yield* Target.connect(target, Target.transient)
    if (isHandle(name) && processId !== undefined) return { environment, session: name, processId }
    const { session } = yield* find(yield* environment.client.sessions.list, name)
    return { environment, session, processId }
  })

/** Connects to the target, and resolves an argument that must name a process. */
export const resolveProcess = (
  target: Target.Target,
  text: string
): Effect.Effect<ProcessReference, Target.TargetError | ClientError | CommandFailed, Scope.Scope> =>
  Effect.flatMap(resolve(target, text), ({ processId, ...found }) =>
    processId === undefined
      ? new UsageError({ message: "give the process as well: SESSION/PROCESS" })
      : Effect.succeed({ ...found, processId })
  )
