/**
 * Turns the sandbox of a request into a confinement, or refuses it if this server cannot enforce it.
 *
 * The spawner confines processes, and file views confine file requests. A sandbox is accepted only if all parts support
 * it: there is a confiner, the spawner `confines`, and the file system `isConfinable`. Otherwise it is refused,
 * whatever layers the server is composed of.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { FileSystem } from "../filesystem/FileSystem.js"
import { type InvalidParams, LimitReached, NotAllowed } from "../protocol/Failure.js"
import type { Sandbox } from "../protocol/Sandbox.js"
import type { Env, SpawnError, Spawns } from "../spawn/Child.js"
import type { Confinement } from "../spawn/Confinement.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { Bubblewrap } from "./Bubblewrap.js"
import { plan, Unprobed } from "./MountPlan.js"
import * as SandboxPolicy from "./SandboxPolicy.js"
import * as Seccomp from "./Seccomp.js"
import { ServerFiles } from "./ServerFiles.js"
import { maxFolders } from "./WritableFolders.js"

/** The maximum number of paths that are probed for one sandbox besides those that it names. */
const maxProbes = 256

/** The refusal of a restricting sandbox that this server cannot enforce. */
const unenforceable = (why: string): NotAllowed =>
  new NotAllowed({
    message:
      `this server cannot enforce a restricted sandbox: ${why}; or request permissions of type disabled or external, ` +
      "or unrestricted managed ones"
  })

/**
 * What is confined: a process, with its environment, or a file request, to which network restrictions do not apply. A
 * request that only reads needs no writable folders and no protected names in them.
 *
 * @category models
 */
export type Use = { readonly env: Env } | "read" | "write"

/**
 * Turns sandboxes into confinements.
 *
 * @category models
 */
export interface Shape {
  /**
   * The confinement that enforces a sandbox with the files as they are now; undefined if it restricts nothing. Fails if
   * it cannot be enforced, with a `SpawnError` if a file system that its paths lead to does not answer.
   */
  readonly confine: (
    sandbox: Sandbox | undefined,
    use: Use
  ) => Effect.Effect<Confinement | undefined, NotAllowed | InvalidParams | LimitReached | SpawnError>
  /** Whether a socket belongs, or may belong, to a process that is confined now. */
  readonly isConfined: (owner: SocketOwner.SocketOwner) => boolean
}

/** `tmpdir` is the process's own TMPDIR, for file requests the server's. */
const policyOf = (sandbox: Sandbox | undefined, use: Use) =>
  Effect.suspend(() => {
    if (sandbox === undefined) return Effect.succeed(undefined)
    const isProcess = typeof use === "object"
    return Effect.map(SandboxPolicy.policyOf(sandbox, (isProcess ? use.env : process.env)["TMPDIR"]), (policy) =>
      isProcess || policy?.files !== undefined ? policy : undefined
    )
  })

/** Refuses every restrictive sandbox, with this reason. */
const refusing = (why: string): Shape => ({
  confine: (sandbox, use) =>
    Effect.flatMap(policyOf(sandbox, use), (policy) =>
      policy === undefined ? Effect.succeed(undefined) : unenforceable(why)
    ),
  isConfined: () => false
})

/**
 * The confiner of a server. The default refuses every restriction.
 *
 * @category tags
 */
export class Confiner extends Context.Reference<Confiner>()("exec-server/Confiner", {
  defaultValue: (): Shape => refusing("it was composed without bubblewrap")
}) {
  /** Confines with bubblewrap. Refuses restrictions if it is not installed. */
  static readonly layer: Layer.Layer<never, never, Bubblewrap> = Layer.effect(
    Confiner,
    Effect.gen(function* () {
      const bubblewrap = yield* Bubblewrap
      const { isPlaceholder, writable } = bubblewrap
      const serverFiles = yield* ServerFiles

      /** Makes the plan, and probes the paths that may hang: some of them are known only after others were examined. */
      const planProbed = (
        policy: SandboxPolicy.Policy,
        use: Use,
        probed: ReadonlySet<string>,
        left = maxProbes
      ): Effect.Effect<Confinement, NotAllowed | SpawnError> =>
        Effect.suspend(() => {
          const mayHang = (path: string) => !probed.has(path) && bubblewrap.mayHang(path)
          const surroundings = { writableAround: writable.around, serverFiles, isPlaceholder, mayHang }
          try {
            return plan(policy, surroundings, use === "read")
          } catch (error) {
            if (!(error instanceof Unprobed)) throw error
            const { path } = error
            if (left === 0) return unenforceable(`it depends on more than ${maxProbes} paths that may hang`)
            return Effect.zipRight(
              bubblewrap.probe(() => [path]),
              planProbed(policy, use, new Set([...probed, path]), left - 1)
            )
          }
        })

      const confine: Shape["confine"] = (sandbox, use) =>
        Effect.gen(function* () {
          const policy = yield* policyOf(sandbox, use)
          if (policy === undefined) return undefined
          yield* Effect.mapError(bubblewrap.checkConfining, ({ message }) => unenforceable(message))
          if (policy.isolated && Seccomp.noForeignSockets() === undefined) {
            return yield* unenforceable(`the network cannot be restricted on this CPU architecture (${process.arch})`)
          }
          const named = [...(policy.files ?? []).map(({ path }) => path), ...serverFiles]
          yield* bubblewrap.probe(() => named)
          const confinement = yield* planProbed(policy, use, new Set(named))
          if (!writable.hasRoomFor(confinement)) {
            return yield* new LimitReached({
              limit: "writable folders of running sandboxes",
              value: maxFolders,
              advice: "end some sandboxed processes first, or name fewer writable paths"
            })
          }
          return confinement
        })
      return { confine, isConfined: (owner) => SocketOwner.isWithin(owner, bubblewrap.confined()) }
    })
  )
}

/**
 * The confiner for the processes of a spawner. Refuses restrictions if the spawner cannot confine.
 *
 * @category utilities
 */
export const forSpawner = ({ confines }: Pick<Spawns, "confines">): Effect.Effect<Shape> =>
  confines ? Confiner : Effect.succeed(refusing("what starts its processes does not confine them"))

/**
 * The confiner for file requests. Refuses restrictions if there are no views of these files.
 *
 * @category utilities
 */
export const forFiles = ({ isConfinable }: Pick<FileSystem["Type"], "isConfinable">): Effect.Effect<Shape> =>
  isConfinable ? Confiner : Effect.succeed(refusing("it has no sandboxed view of its files"))
