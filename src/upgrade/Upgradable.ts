/**
 * A server that a new version can replace within its process: `Replacing` does that, and `Replaced` makes the new version
 * go on. Both are loaded on use; what an ordinary start needs is here.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import { Handover, type Part, type Shape } from "../internal/Handover.js"
import type { SessionRegistry } from "../session/SessionRegistry.js"
import type { Before } from "./Replaced.js"
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
}

/** Makes it, with what the version before has left. Dies if that cannot be read: then that version goes on. */
export const make: Effect.Effect<Upgradable> = Effect.gen(function* () {
  const token = Token.find()
  const before =
    token === undefined
      ? undefined
      : yield* Effect.map(
          Effect.promise(() => import("./Replaced.js")),
          ({ read }) => read(token)
        )
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
    serving: Deferred.await(serving)
  }
})

/** Provides the parts of a server with the place where they meet. */
export const layer = ({ handover }: Upgradable): Layer.Layer<never> => Layer.succeed(Handover, handover)

/** Restores the sessions of the version before, once there is a registry and before clients come. */
export const layerSessions = ({ before, handover }: Upgradable): Layer.Layer<never, never, SessionRegistry> =>
  Layer.effectDiscard(
    Effect.suspend(() => {
      contributeSessions
      return Effect.void
    })
  )
