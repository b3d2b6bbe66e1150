/**
 * The calls of many callers: each authenticated subject has commands of its own, under numbers of its own. They end when
 * the subject has not called for a while, or its token expires.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { sequential } from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import * as Calls from "./Calls.js"
import * as Disuse from "./Disuse.js"
import { ExecFailure } from "./ExecFailure.js"
import type { Source } from "./Machines.js"
import * as Tools from "./Tools.js"
import * as UnifiedExec from "./UnifiedExec.js"

/** Who calls. */
export interface Caller {
  readonly subject: string
  /** When its token expires, in milliseconds since 1970; undefined if it does not. */
  readonly expiresAtMs: number | undefined
}

/** Options of `make`. */
export interface Options extends Pick<Calls.Options, "tools" | "login"> {
  /** The machine, for a subject. */
  readonly sourceOf: (subject: string) => Source
  /** How long a subject may make no call before its commands end, in milliseconds. */
  readonly idleMs: number
  /** The most subjects at a time. */
  readonly maxPrincipals: number
}

/** Carries out a call of a caller; undefined if there is no such tool. See `Calls.call`. */
export type Call = (caller: Caller, ...call: Parameters<Calls.Calls["call"]>) => ReturnType<Calls.Calls["call"]>

interface Principal extends Disuse.Used {
  readonly calls: Calls.Calls
  expiresAtMs: number
}

/** Makes the calls; the scope ends all commands. */
export const make = ({
  sourceOf,
  tools,
  login,
  idleMs,
  maxPrincipals
}: Options): Effect.Effect<Call, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const shared = yield* UnifiedExec.makeShared
    const run = yield* FiberSet.makeRuntime<never>()
    const principals = new Map<string, Principal>()
    const oneAtATime = Effect.unsafeMakeSemaphore(1).withPermits(1)
    const names = new Set(Tools.offered(tools).map(({ name }) => name))

    const open = (subject: string, expiresAtMs: number) =>
      Effect.gen(function* () {
        if (principals.size >= maxPrincipals) {
          const message = `${maxPrincipals} others use this server; try again when one of them has been idle for a while`
          return yield* new ExecFailure({ message })
        }
        const own = yield* Scope.fork(scope, sequential)
        const calls = yield* Scope.extend(Calls.make({ sources: [sourceOf(subject)], tools, login, shared }), own)
        const principal: Principal = { calls, use: new Disuse.Use(clock), expiresAtMs }
        principals.set(subject, principal)
        const close = Effect.suspend(() => {
          principals.delete(subject)
          return Scope.close(own, Exit.void)
        })
        run(Effect.zipRight(Disuse.over(principal, idleMs), close))
        return principal
      })

    /** Begins a call. The first one of a subject makes its calls. */
    const enter = ({ subject, expiresAtMs = Number.POSITIVE_INFINITY }: Caller) =>
      oneAtATime(
        Effect.suspend(() => {
          const known = principals.get(subject)
          return known === undefined ? open(subject, expiresAtMs) : Effect.succeed(known)
        })
      ).pipe(
        Effect.map((principal) => {
          principal.expiresAtMs = Math.max(principal.expiresAtMs, expiresAtMs)
          principal.use.enter()
          return principal
        })
      )

    return (caller, name, ...call) => {
      if (!names.has(name)) return undefined
      return Effect.acquireUseRelease(
        enter(caller),
        ({ calls }) => calls.call(name, ...call) ?? Effect.dieMessage(`${name} is offered, and not there`),
        ({ use }) => Effect.sync(() => use.leave())
      ).pipe(Effect.catchAll(({ message }) => Effect.succeed(Calls.failed(message))))
    }
  })
