/**
 * Starts the leader of a child and reports its exit, independently of its descriptors.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ImageWriter } from "../internal/Image.js"
import * as OsError from "../protocol/OsError.js"
import * as Signals from "../protocol/Signals.js"
import { attempt, type ChildSpec, ExitStatus, SpawnError } from "./Child.js"
import type { LeaderState, PlaceholderState, SpawnerState } from "./ChildState.js"
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
    Pick<Tree, "root" | "signal" | "hasRemains" | "findRemains" | "closeTerminal"> {
  /** Its state, for `Handover.adopt`. */
  readonly freeze: (writer: ImageWriter) => LeaderState
}

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

/** The leader of a tree. `isReported`: its end was reported before. */
const lead = (tree: Tree, { pid, onExit }: Running, isReported = false): Leader => ({
  pid,
  onExit: (listen) =>
    onExit((status) => {
      tree.reaped()
      isReported = true
      listen(status)
    }),
  root: tree.root,
  signal: tree.signal,
  hasRemains: tree.hasRemains,
  findRemains: tree.findRemains,
  closeTerminal: tree.closeTerminal,
  freeze: () => ({ pid, tree: tree.freeze(), reported: isReported })
})

/** Makes a process that was just started the leader of a tree. */
const toLeader = (trees: TreesShape, running: Running): Leader => lead(trees.track(running.pid), running)

/** A process that the version of the server before has started. Its end is waited for once there is a listener. */
export const awaitEnd = (pid: number): Running => {
  Posix.expect(pid)
  return { pid, onExit: (listen) => Posix.adopt(pid, (code, signal) => listen(statusOf(code, signal))) }
}

/** The end of a process that was reported before. */
const over: Pick<Running, "onExit"> = { onExit: () => {} }

/** A leader that the version of the server before has started, without a namespace. */
export const adoptLeader = (trees: TreesShape, { pid, tree: state, reported }: LeaderState): Leader => {
  const tree = trees.adopt(state)
  const { onExit } = reported ? over : awaitEnd(pid)
  const begin: Running["onExit"] = (listen) => {
    tree.begin()
    onExit(listen)
  }
  return lead(tree, { pid, onExit: begin }, reported)
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

/** Hands the leaders of confined children over. */
export interface ConfinedHandover {
  /** The placeholders that are held. */
  readonly freeze: (writer: ImageWriter) => ReadonlyArray<PlaceholderState>
  /** Holds them again, until `begin`. */
  readonly restore: (placeholders: ReadonlyArray<PlaceholderState>) => void
  /** A leader in a namespace. */
  readonly adopt: (state: LeaderState) => Leader
  /** Releases what no adopted leader needs. */
  readonly begin: () => void
}

/** Hands leaders over; see `Handover` of Child.ts. */
export interface LeaderHandover {
  readonly freeze: (writer: ImageWriter) => SpawnerState
  readonly restore: (state: SpawnerState) => void
  readonly adopt: (state: LeaderState) => Leader
  readonly begin: () => void
}

/** Hands over the leaders of these trees. */
export const handoverOf = (trees: TreesShape, confined: ConfinedHandover | undefined): LeaderHandover => ({
  freeze: (writer) => {
    const guard = trees.freezeGuard()
    if (guard.running !== undefined) writer.descriptor(guard.running.socket)
    return { guard, placeholders: confined?.freeze(writer) ?? [] }
  },
  restore: ({ guard, placeholders }) => {
    if (guard !== undefined) trees.adoptGuard(guard)
    confined?.restore(placeholders)
  },
  adopt: (state) => {
    if (state.namespace === undefined) return adoptLeader(trees, state)
    if (confined === undefined) throw new Error("this server has no bubblewrap for a child in a namespace")
    return confined.adopt(state)
  },
  begin: () => {
    trees.endOthers()
    confined?.begin()
  }
})

/** Starts the leaders of confined children. By default there is none, and no child can be confined. */
export class ConfinedLauncher extends Context.Reference<ConfinedLauncher>()("exec-server/ConfinedLauncher", {
  defaultValue: (): { readonly launch: Launch; readonly handover: ConfinedHandover } | undefined => undefined
}) {}

/** Starts leaders. */
export class Launcher extends Context.Tag("exec-server/Launcher")<
  Launcher,
  {
    /** Whether it enforces the `confinement` of a child. If not, it fails when given one. */
    readonly confines: boolean
    /** Starts the program of a child on these descriptors, or as the owner of this terminal. */
    readonly launch: Launch
    /** Hands its leaders over. */
    readonly handover: LeaderHandover
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
        handover: handoverOf(trees, confined?.handover),
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
