/**
 * The spawner service.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { provideInOrder } from "../internal/Wiring.js"
import type { Spawns } from "./Child.js"
import { Guard } from "./Guard.js"
import { Launcher } from "./Launcher.js"
import { PipeSpawner } from "./PipeSpawner.js"
import { ProcessTrees } from "./ProcessTrees.js"
import { PtySpawner } from "./PtySpawner.js"

/**
 * Starts children of either kind.
 *
 * @category tags
 */
export class Spawner extends Context.Tag("exec-server/Spawner")<Spawner, Spawns>() {
  /** Terminals by `PtySpawner`, pipes by `PipeSpawner`. */
  static readonly layerDispatch: Layer.Layer<Spawner, never, PipeSpawner | PtySpawner> = Layer.effect(
    Spawner,
    Effect.gen(function* () {
      const pipes = yield* PipeSpawner
      const terminals = yield* PtySpawner
      return {
        confines: pipes.confines && terminals.confines,
        refusalOf: pipes.refusalOf,
        spawn: (spec) => (spec.io._tag === "Pty" ? terminals : pipes).spawn(spec)
      }
    })
  )

  /** Real children, started by the `Launcher` provided. */
  static readonly layerReal: Layer.Layer<Spawner, never, Launcher> = Spawner.layerDispatch.pipe(
    provideInOrder(PipeSpawner.layer, PtySpawner.layer)
  )

  /** Real children, as processes of the server. */
  static readonly layer: Layer.Layer<Spawner> = Spawner.layerReal.pipe(
    provideInOrder(Guard.layer, ProcessTrees.layer, Launcher.layer)
  )
}

/**
 * Real children, as processes of the server. They cannot be confined; `NodeServices.layer` has a spawner that confines.
 *
 * @category layers
 */
export const layer: Layer.Layer<Spawner> = Spawner.layer
