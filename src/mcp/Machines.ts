/**
 * The environments that commands run in. Each is connected with the first call that needs it, and again after its
 * connection has ended for good.
 *
 * @since 0.1.0
 */
import { hostname, type } from "node:os"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Environment } from "../environment/Environment.js"
import { ExecFailure } from "./ExecFailure.js"

/** An environment that can be connected. */
export interface Source {
  readonly id: string
  /** What a model is told about where it is. */
  readonly host: string
  readonly connect: Effect.Effect<Environment, { readonly message: string }, Scope.Scope>
}

/** This machine, for `Source.host`. */
export const thisMachine = (): string => `${hostname()} (${type()})`

/** Gets an environment by its id. */
export type Machines = (id: string) => Effect.Effect<Environment, ExecFailure>

interface Connected {
  readonly environment: Environment
  readonly scope: Scope.CloseableScope
}

/** The connection of one environment; the scope closes it. */
const one = (source: Source, scope: Scope.Scope) => {
  let current: Connected | undefined
  const connect = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
      const environment = yield* restore(Scope.extend(source.connect, own)).pipe(
        Effect.onError((cause) => Scope.close(own, Exit.failCause(cause))),
        Effect.mapError(({ message }) => new ExecFailure({ message: `cannot connect to ${source.host}: ${message}` }))
      )
      current = { environment, scope: own }
      return environment
    })
  )
  return Effect.gen(function* () {
    if (current !== undefined) {
      const { _tag } = yield* current.environment.client.state
      if (_tag !== "Ended") return current.environment
      yield* Scope.close(current.scope, Exit.void)
      current = undefined
    }
    return yield* connect
  }).pipe(Effect.unsafeMakeSemaphore(1).withPermits(1))
}

/**
 * Makes the environments; the scope closes their connections. It closes them after what was acquired since, so that
 * commands can still be asked to end.
 */
export const make = (sources: ReadonlyArray<Source>): Effect.Effect<Machines, never, Scope.Scope> =>
  Effect.map(
    Effect.flatMap(Effect.scope, (scope) => Scope.fork(scope, ExecutionStrategy.sequential)),
    (scope) => {
      const known = new Map(sources.map((source) => [source.id, one(source, scope)]))
      return (id) => known.get(id) ?? new ExecFailure({ message: `there is no environment ${id}` })
    }
  )
