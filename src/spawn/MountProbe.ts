/**
 * Finds out whether the slow mounts that paths lead to answer, in a process that may wait for them. What is asked of
 * these paths on the event loop next comes back, unless the mount dies in that moment.
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
 * Waits until there is an answer for each of these paths, whatever it is. Fails if there is none in time. Does nothing
 * for paths that lead to no slow mount. `paths` may throw a `SpawnError`.
 */
export const check = (
  mounts: SlowMountsShape,
  trees: TreesShape,
  paths: () => ReadonlyArray<string>
): Effect.Effect<void, SpawnError> =>
  Effect.flatMap(
    attempt(() => (mounts.isPresent() ? paths().filter((path) => mounts.find(path) !== undefined) : [])),
    (slow) => (slow.length === 0 ? Effect.void : look(mounts, trees, slow))
  )

const look = (
  mounts: SlowMountsShape,
  trees: TreesShape,
  paths: ReadonlyArray<string>
): Effect.Effect<void, SpawnError> =>
  Effect.gen(function* () {
    const waits = yield* SessionWaits
    const refused = waits.refusal(true)
    if (refused !== undefined) return yield* refused
    const looking = yield* attempt(() => runOwn(trees, Posix.lookProgram(), paths, {}, nothing))
    yield* Effect.async<void, SpawnError>((resume) => {
      const kill = () => looking.signal("SIGKILL", "tree")
      const over = waits.begin((message) => {
        resume(new SpawnError({ message: message ?? hangText(mounts, paths) }))
        kill()
      })
      looking.onExit(() => {
        over()
        resume(Effect.void)
      })
      return Effect.sync(kill)
    })
  })
