/**
 * Finds out, in a process that may wait for them, whether the slow mounts that paths lead to answer. After that, system
 * calls on these paths are safe on the event loop, unless the mount dies in between.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { attempt, SpawnError } from "./Child.js"
import { runOwn } from "./Launcher.js"
import * as Posix from "./Posix.js"
import type { Shape as TreesShape } from "./ProcessTrees.js"
import { SessionWaits } from "./SessionWaits.js"
import { hangText, type Shape as SlowMountsShape } from "./SlowMounts.js"

const nothing = [-1, -1, -1] as const

/**
 * Waits until the file systems have answered for each of these paths, even with an error. Fails if one does not answer
 * in time. Does nothing for paths that lead to no slow mount. `paths` may throw a `SpawnError`.
 */
export const check = (
  mounts: SlowMountsShape,
  trees: TreesShape,
  paths: () => ReadonlyArray<string>
): Effect.Effect<void, SpawnError> =>
  Effect.flatMap(
    attempt(() => (mounts.isPresent() ? paths().filter((path) => mounts.find(path) !== undefined) : [])),
    (slow) => (slow.length === 0 ? Effect.void : probe(mounts, trees, slow))
  )

const probe = (
  mounts: SlowMountsShape,
  trees: TreesShape,
  paths: ReadonlyArray<string>
): Effect.Effect<void, SpawnError> =>
  Effect.gen(function* () {
    const waits = yield* SessionWaits
    const refused = waits.refusal(true)
    if (refused !== undefined) return yield* refused
    const probing = yield* attempt(() => runOwn(trees, Posix.lookProgram(), paths, {}, nothing))
    yield* Effect.async<void, SpawnError>((resume) => {
      const kill = () => probing.signal("SIGKILL", "tree")
      const over = waits.begin((message) => {
        resume(new SpawnError({ message: message ?? hangText(mounts, paths) }))
        kill()
      })
      probing.onExit(() => {
        over()
        resume(Effect.void)
      })
      return Effect.sync(kill)
    })
  })
