/**
 * A server that a new version can replace within its process: `Replacing` does that, and `Replaced` makes the new version
 * go on. Both are loaded on use; what an ordinary start needs is here.
 *
 * @since 0.1.0
 */
import { resolve } from "node:path"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Handover, type Part, type Shape } from "../internal/Handover.js"
import { AuditLog } from "../session/AuditLog.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import type { SessionsState } from "../session/SessionsState.js"
import { Transport } from "../transport/Transport.js"
import * as ControlFolder from "./ControlFolder.js"
import type { Before } from "./Replaced.js"
import type { Server } from "./Replacing.js"
import * as Token from "./Token.js"

/** A server that can be replaced. */
export interface Upgradable {
  /** What the version before has left; undefined at an ordinary start. */
  readonly before: Before | undefined
  /** The parts whose state is handed over. */
  readonly parts: ReadonlyArray<Part>
  /** Where the parts meet. */
  readonly handover: Shape
  /** Completes when clients are accepted. */
  readonly serving: Effect.Effect<void>
  /**
   * What to do first if something fails. While the version before may come back, it does so at once: finalizers would
   * end what it is to go on with.
   */
  readonly giveUp: (cause: Cause.Cause<unknown>) => Effect.Effect<void>
}

const giveUpWith =
  (token: Token.Token | undefined) =>
  (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
    Effect.sync(() => {
      if (Cause.isInterruptedOnly(cause)) return
      const error = Cause.squash(cause)
      token?.giveUp?.(error instanceof Error ? error.message : String(error))
    })

/** Makes it, with what the version before has left. Dies if that cannot be read: then that version comes back. */
export const make: Effect.Effect<Upgradable> = Effect.gen(function* () {
  const token = Token.find()
  const before =
    token === undefined
      ? undefined
      : yield* Effect.map(
          Effect.promise(() => import("./Replaced.js")),
          ({ read }) => read(token)
        )
  // A server that is told to end must not come back as the version before.
  if (token !== undefined) for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, token.disarm)
  const parts: Array<Part> = []
  const serving = Deferred.unsafeMake<void>(FiberId.none)
  return {
    before,
    parts,
    handover: {
      adopted: (name) => before?.adopted(name),
      contribute: (part) => void parts.push(part),
      serving: () => Deferred.unsafeDone(serving, Exit.void)
    },
    serving: Deferred.await(serving),
    giveUp: giveUpWith(token)
  }
})

/** Where the parts of a server meet. */
export const layer = ({ handover }: Upgradable): Layer.Layer<never> => Layer.succeed(Handover, handover)

/** The name of the sessions' state. */
export const sessionsPart = "sessions"

/** An ordinary start needs no schema of it. */
const loadState = () => import("../session/SessionsState.js")

/** Takes over the sessions of the version before, before clients come. Dies if that is not possible. */
export const layerSessions = ({ handover }: Upgradable): Layer.Layer<never, never, SessionRegistry> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      let encode = (_: SessionsState): unknown => {
        throw new Error("the schema of the sessions is not loaded")
      }
      handover.contribute({
        name: sessionsPart,
        load: Effect.map(Effect.promise(loadState), ({ SessionsState }) => {
          encode = Schema.encodeSync(SessionsState)
        }),
        freeze: (writer) => encode(registry.freeze(writer))
      })
      const before = handover.adopted(sessionsPart)
      if (before === undefined) return
      const { SessionsState } = yield* Effect.promise(loadState)
      yield* registry.adopt(Schema.decodeUnknownSync(SessionsState)(before.state), before.reader)
    })
  )

/** The value of the setting for a socket in the folder of this user. */
export const inFolder = "auto"

/** The value of the setting for no socket. */
export const noSocket = "none"

/** Whether a value of the setting is the path of a socket. */
export const isSocketPath = (setting: string): boolean => setting !== inFolder && setting !== noSocket

/** The absolute path of the control socket for the value of its setting; undefined if there is none. */
export const pathOf = (setting: string): string | undefined => {
  if (setting === noSocket) return undefined
  return setting === inFolder
    ? ControlFolder.socketOf(ControlFolder.folder(process.env), process.pid)
    : resolve(setting)
}

/** What the server is, besides its parts. */
export type Rest = Pick<Server, "secrets" | "reloading" | "ready">

/** Opens the control socket, if the setting says so. A failure is logged: the server serves without one. */
const openControl = (setting: string, { handover, parts }: Upgradable, rest: Rest) =>
  Effect.gen(function* () {
    const path = pathOf(setting)
    if (path === undefined) return
    const registry = yield* SessionRegistry
    const { address } = yield* Transport
    if (setting === inFolder) yield* Effect.try(() => ControlFolder.make(ControlFolder.folder(process.env)))
    const { listen } = yield* Effect.promise(() => import("./ControlSocket.js"))
    const audit = yield* AuditLog
    yield* listen(path, address, handover, { ...rest, parts, registry, audit })
  }).pipe(
    Effect.catchAll((error) => {
      const { message } = "error" in error && error.error instanceof Error ? error.error : error
      return Effect.logWarning(`there is no control socket, and so no upgrade in place: ${message}`)
    })
  )

/** Goes on where the version before has stopped, once clients are accepted. */
const goOn = <E, R>(before: Before, { parts, serving }: Upgradable, control: Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const registry = yield* SessionRegistry
    yield* serving
    const { finish, takeOver } = yield* Effect.promise(() => import("./Replaced.js"))
    const sessions = registry.list()
    const processes = sessions.flatMap(({ supervisor }) => supervisor.list().map((process) => process.info()))
    const counted = { sessions: sessions.length, processes: processes.filter(({ running }) => running).length }
    const times = yield* takeOver(before, registry.begin)
    // Nobody waits for this.
    yield* control
    yield* finish(before, parts, times, counted)
  })

/**
 * Begins: announces the server, or goes on where the version before has stopped; and opens the control socket, which is
 * not waited for at an ordinary start.
 */
export const begin = <E, R>(
  announce: Effect.Effect<void, E, R>,
  setting: string,
  upgradable: Upgradable,
  rest: Rest
): Effect.Effect<void, E, R | SessionRegistry | Transport | Scope.Scope> => {
  const { before } = upgradable
  const control = openControl(setting, upgradable, rest)
  return before === undefined
    ? Effect.zipRight(announce, Effect.asVoid(Effect.forkScoped(control)))
    : goOn(before, upgradable, Effect.zipRight(rest.ready, control))
}
