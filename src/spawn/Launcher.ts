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
import { attempt, type ChildSpec, ExitStatus, SpawnError } from "./Child.js"
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
  /** Calls back once with the exit status, even if the exit was earlier. Supports one listener. */
  readonly onExit: (listener: (status: ExitStatus) => void) => void
}

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
export const makeExit = (): Pick<Running, "onExit"> & { readonly report: (status: ExitStatus) => void } => {
  let status: ExitStatus | undefined
  let listener: ((status: ExitStatus) => void) | undefined
  return {
    report: (reported) => {
      status = reported
      listener?.(reported)
    },
    onExit: (listen) => {
      listener = listen
      if (status !== undefined) listen(status)
    }
  }
}

/**
 * Starts a file with the environment and the directory of a child, and registers it with the guard of these trees. The
 * caller must track it at once. Throws the system's error.
 */
export const run = (
  { guardSocket }: Pick<TreesShape, "guardSocket">,
  file: string,
  argv: ReadonlyArray<string>,
  { cwd, env }: Pick<ChildSpec, "cwd" | "env">,
  stdio: Posix.Stdio
): Running => {
  const variables = Object.entries(env).map(([variable, value]) => `${variable}=${value}`)
  const { report, onExit } = makeExit()
  const onEnd = (code: number, signal: number) => report(statusOf(code, signal))
  const pid = Posix.spawn(file, argv, variables, cwd, stdio, onEnd, guardSocket())
  return { pid, onExit }
}

const runProgram = (trees: TreesShape, spec: ChildSpec, stdio: Posix.Stdio): Running => {
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  try {
    return run(trees, file, [spec.arg0 ?? name, ...args], spec, stdio)
  } catch (error) {
    if (OsError.codeOf(error) !== "ENOEXEC") throw error
    return run(trees, shell, [shell, file, ...args], spec, stdio)
  }
}

/** Makes a process that was just started the leader of a tree. */
const toLeader = (trees: TreesShape, { pid, onExit }: Running): Leader => {
  const tree = trees.track(pid)
  return {
    pid,
    onExit: (listen) =>
      onExit((status) => {
        tree.reaped()
        listen(status)
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
  attempt(() => toLeader(trees, runProgram(trees, spec, stdio)))

const launchSlowly = (mounts: SlowMountsShape, trees: TreesShape, spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.suspend(() => {
    const { report, onExit } = makeExit()
    const options: SlowStarts.Options = {
      mounts,
      spec,
      stdio,
      guard: trees.guardSocket(),
      onExit: (code, signal) => report(statusOf(code, signal)),
      onLate: (pid) => {
        const late = toLeader(trees, { pid, onExit })
        late.onExit(() => {})
        late.signal("SIGKILL", "tree")
      }
    }
    return Effect.map(SlowStarts.start(options, shell), (pid) => toLeader(trees, { pid, onExit }))
  })

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
