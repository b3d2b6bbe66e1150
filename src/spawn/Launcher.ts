/**
 * Starts the leader of a child and reports its exit, independently of its descriptors.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as OsError from "../protocol/OsError.js"
import * as Signals from "../protocol/Signals.js"
import type { Cgroup } from "./Cgroups.js"
import { attempt, type ChildSpec, ExitStatus, SpawnError } from "./Child.js"
import * as ChildLimits from "./ChildLimits.js"
import * as ExitUsage from "./ExitUsage.js"
import * as Posix from "./Posix.js"
import { ProcessTrees, type Tree, type Shape as TreesShape } from "./ProcessTrees.js"
import * as Program from "./Program.js"
import { SlowMounts, type Shape as SlowMountsShape } from "./SlowMounts.js"
import * as SlowStarts from "./SlowStarts.js"

/** The shell that runs an executable file without a known format or a `#!` line. */
const shell = "/bin/sh"

/** A running child process. */
export interface Running {
  readonly pid: number
  /** Calls back once with the exit status and the usage, even if the exit was earlier. Supports one listener. */
  readonly onExit: (listener: OnExit) => void
}

/** Receives the exit status of a child, and what it has used if that is known. */
export type OnExit = (status: ExitStatus, usage: ExitUsage.ExitUsage | undefined) => void

/** A started leader, and its tree. */
export interface Leader
  extends Running,
    Pick<Tree, "root" | "signal" | "hasRemains" | "findRemains" | "closeTerminal"> {}

/** The exit status from a status and a signal. `Lost` if the system reported neither. */
export const statusOf = (code: number, signal: number): ExitStatus => {
  if (signal !== 0) return ExitStatus.Signaled({ number: signal, signal: Signals.nameOf(signal) })
  if (code >= 0) return ExitStatus.Exited({ code })
  return ExitStatus.Lost({ reason: "the system reported neither a status nor a signal" })
}

/** An exit that is reported once to one listener. The report and the listener may come in either order. */
export const makeExit = (): Pick<Running, "onExit"> & { readonly report: OnExit } => {
  let reported: Parameters<OnExit> | undefined
  let listener: OnExit | undefined
  return {
    report: (...report) => {
      reported = report
      listener?.(...report)
    },
    onExit: (listen) => {
      listener = listen
      if (reported !== undefined) listen(...reported)
    }
  }
}

/** The callback of `Posix.spawn` that reports an exit. */
const reporting =
  (report: OnExit): Posix.OnExit =>
  (code, signal, ...usage) =>
    report(statusOf(code, signal), ExitUsage.ofReport(...usage))

/**
 * Starts a file with the environment and the directory of a child, and registers it with the guard of these trees. The
 * caller must track it at once. Throws the system's error.
 */
export const run = (
  { guardSocket }: Pick<TreesShape, "guardSocket">,
  file: string,
  argv: ReadonlyArray<string>,
  { cwd, env }: Pick<ChildSpec, "cwd" | "env">,
  stdio: Posix.Stdio,
  bounds?: Posix.Bounds
): Running => {
  const variables = Object.entries(env).map(([variable, value]) => `${variable}=${value}`)
  const { report, onExit } = makeExit()
  const pid = Posix.spawn(file, argv, variables, cwd, stdio, reporting(report), guardSocket(), bounds)
  return { pid, onExit }
}

/** Starts a child in a cgroup of its own, where there are cgroups. If the start fails, none is left. */
export const inCgroup = <A>(
  { cgroups }: Pick<TreesShape, "cgroups">,
  { limits }: Pick<ChildSpec, "limits">,
  start: (cgroup: Cgroup | undefined) => A
): A => {
  const cgroup = cgroups.make(limits)
  try {
    return start(cgroup)
  } catch (error) {
    cgroup?.remove()
    throw error
  } finally {
    cgroup?.started()
  }
}

/** What a child gets before it executes its program. */
const boundsOf = ({ limits }: Pick<ChildSpec, "limits">, cgroup: Cgroup | undefined): Posix.Bounds => ({
  limits: ChildLimits.textOf(limits),
  cgroup: cgroup?.fd
})

const runProgram = (trees: TreesShape, spec: ChildSpec, stdio: Posix.Stdio, cgroup: Cgroup | undefined): Running => {
  const bounds = boundsOf(spec, cgroup)
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  try {
    return run(trees, file, [spec.arg0 ?? name, ...args], spec, stdio, bounds)
  } catch (error) {
    if (OsError.codeOf(error) !== "ENOEXEC") throw error
    return run(trees, shell, [shell, file, ...args], spec, stdio, bounds)
  }
}

/** Makes a process that was just started the leader of a tree. */
const toLeader = (trees: TreesShape, { pid, onExit }: Running, cgroup?: Cgroup): Leader => {
  const tree = trees.track(pid, cgroup)
  return {
    pid,
    onExit: (listen) =>
      onExit((status, usage) => {
        // Read before the cgroup is removed.
        const all = ExitUsage.withCgroup(usage, cgroup?.usage())
        tree.reaped()
        listen(status, all)
      }),
    root: tree.root,
    signal: tree.signal,
    hasRemains: tree.hasRemains,
    findRemains: tree.findRemains,
    closeTerminal: tree.closeTerminal
  }
}

/** Starts one of the server's own programs as a leader, in `/`. Throws system errors. */
export const runOwn = (
  trees: TreesShape,
  file: string,
  args: ReadonlyArray<string>,
  env: ChildSpec["env"],
  stdio: Posix.Stdio
): Leader => toLeader(trees, run(trees, file, [file, ...args], { cwd: "/", env }, stdio))

const launch = (trees: TreesShape, spec: ChildSpec, stdio: Posix.Stdio) =>
  attempt(() => inCgroup(trees, spec, (cgroup) => toLeader(trees, runProgram(trees, spec, stdio, cgroup), cgroup)))

const launchSlowly = (mounts: SlowMountsShape, trees: TreesShape, spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.flatMap(
    attempt(() => trees.cgroups.make(spec.limits)),
    (cgroup) => {
      const { report, onExit } = makeExit()
      const options: SlowStarts.Options = {
        mounts,
        spec,
        stdio,
        guard: trees.guardSocket(),
        bounds: boundsOf(spec, cgroup),
        onExit: reporting(report),
        onLate: (pid) => {
          const late = toLeader(trees, { pid, onExit }, cgroup)
          late.onExit(() => {})
          late.signal("SIGKILL", "tree")
        }
      }
      return SlowStarts.start(options, shell).pipe(
        Effect.map((pid) => toLeader(trees, { pid, onExit }, cgroup)),
        Effect.ensuring(Effect.sync(() => cgroup?.started())),
        Effect.onError(() => Effect.sync(() => cgroup?.remove()))
      )
    }
  )

/** Why limits cannot be enforced for the children of these trees; undefined if they can. */
export const refusalIn =
  ({ cgroups }: Pick<TreesShape, "cgroups">) =>
  (limits: ChildLimits.ChildLimits): string | undefined =>
    ChildLimits.excessOf(limits) ?? cgroups.refusal(limits)

/** Starts leaders on descriptors, or as the owner of a terminal. */
type Launch = (spec: ChildSpec, stdio: Posix.Stdio) => Effect.Effect<Leader, SpawnError>

/** Starts the leaders of confined children. By default there is none, and no child can be confined. */
export class ConfinedLauncher extends Context.Reference<ConfinedLauncher>()("exec-server/ConfinedLauncher", {
  defaultValue: (): { readonly launch: Launch } | undefined => undefined
}) {}

/** Starts leaders. */
export class Launcher extends Context.Tag("exec-server/Launcher")<
  Launcher,
  {
    /** Whether it enforces the `confinement` of a child. If not, it fails when given one. */
    readonly confines: boolean
    /** Why these limits cannot be enforced; undefined if they can. */
    readonly refusalOf: (limits: ChildLimits.ChildLimits) => string | undefined
    /** Starts the program of a child on these descriptors, or as the owner of this terminal. */
    readonly launch: Launch
  }
>() {
  /**
   * Starts leaders as processes of the server, and confined ones by `ConfinedLauncher`. Starts are synchronous, unless
   * some mount may hang.
   */
  static readonly layer: Layer.Layer<Launcher, never, ProcessTrees> = Layer.effect(
    Launcher,
    Effect.gen(function* () {
      const trees = yield* ProcessTrees
      const confined = yield* ConfinedLauncher
      const mounts = yield* SlowMounts
      return {
        confines: confined !== undefined,
        refusalOf: refusalIn(trees),
        launch: (spec, stdio) => {
          if (spec.confinement === undefined) {
            return mounts.isPresent() ? launchSlowly(mounts, trees, spec, stdio) : launch(trees, spec, stdio)
          }
          if (confined !== undefined) return confined.launch(spec, stdio)
          return new SpawnError({ message: "this server cannot confine a process" })
        }
      }
    })
  )
}
