/**
 * Starts children in PID namespaces, with bubblewrap. When such a child ends, the kernel kills all its descendants,
 * even those that left its process group and session.
 *
 * Bubblewrap runs `spawn/native/init.c` as the first process of the namespace. It reports the exact start and exit of
 * the program through a pipe; bubblewrap's own exit status does not tell them apart.
 *
 * @since 0.1.0
 */
import { execFile } from "node:child_process"
import { accessSync, closeSync, constants, openSync } from "node:fs"
import { Socket } from "node:net"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { provideInOrder } from "../internal/Wiring.js"
import * as OsError from "../protocol/OsError.js"
import { attempt, type ChildSpec, type ExitStatus, type Identity, SpawnError } from "../spawn/Child.js"
import * as ChildLimits from "../spawn/ChildLimits.js"
import type { LeaderState, NamespaceState } from "../spawn/ChildState.js"
import type { Confinement } from "../spawn/Confinement.js"
import * as ExitUsage from "../spawn/ExitUsage.js"
import { Guard } from "../spawn/Guard.js"
import {
  awaitEnd,
  type ConfinedHandover,
  ConfinedLauncher,
  handoverOf,
  inCgroup,
  Launcher,
  type Leader,
  type LeaderHandover,
  makeExit,
  type Running,
  refusalIn,
  run,
  statusOf
} from "../spawn/Launcher.js"
import * as MountProbe from "../spawn/MountProbe.js"
import * as Posix from "../spawn/Posix.js"
import { childrenOf, entryOf, isStranger, kill, membersOf, table } from "../spawn/ProcessTree.js"
import { ProcessTrees, type Tree, type Shape as TreesShape } from "../spawn/ProcessTrees.js"
import * as Program from "../spawn/Program.js"
import { SessionWaits } from "../spawn/SessionWaits.js"
import { answerMs, SlowMounts, type Shape as SlowMountsShape } from "../spawn/SlowMounts.js"
import { Spawner } from "../spawn/Spawner.js"
import * as Mounting from "./Mounting.js"
import { Placeholders, type Shape as PlaceholdersShape } from "./Placeholders.js"
import * as WritableFolders from "./WritableFolders.js"

/** Bubblewrap is not installed or cannot create namespaces here; the message says what to do. */
export class BubblewrapUnavailable extends Data.TaggedError("BubblewrapUnavailable")<{ readonly message: string }> {}

/** The deadline of each check of bubblewrap, in milliseconds. */
const checkMs = 10000

/** Mounts the host's whole file system. */
const wholeFileSystem = ["--dev-bind", "/", "/"]

const namespaces = [
  // `init` is PID 1: when it exits, the kernel kills the whole namespace.
  ...["--unshare-pid", "--as-pid-1"],
  // Kills the namespace when the server dies, even without the guard.
  "--die-with-parent"
]

const contained = [
  ...namespaces,
  ...wholeFileSystem,
  ...["--proc", "/proc"],
  // Bubblewrap drops root's capabilities by default; other users have none.
  ...(process.getuid?.() === 0 ? ["--cap-add", "ALL"] : [])
]

/** Without capabilities: with them, root could undo the confinement. */
const confined = [...namespaces, "--unshare-ipc", "--cap-drop", "ALL"]

const findOnPath = (): string | undefined =>
  (process.env["PATH"] ?? "/usr/bin:/bin")
    .split(":")
    .map((folder) => join(folder, "bwrap"))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

/** Finds bubblewrap, and checks that it works by running `true` in the namespaces. */
const find = Effect.suspend(() => {
  const file = findOnPath()
  if (file === undefined) {
    return new BubblewrapUnavailable({
      message: "bubblewrap (bwrap) is not installed; install it (Debian: apt-get install bubblewrap)"
    })
  }
  const args = [...contained, "--", "true"]
  return Effect.async<string, BubblewrapUnavailable>((resume) => {
    execFile(file, args, { timeout: checkMs, killSignal: "SIGKILL" }, (error, _, stderr) => {
      if (error === null) return resume(Effect.succeed(file))
      const why = stderr.trim().split("\n", 1)[0] || error.message
      resume(new BubblewrapUnavailable({ message: `bubblewrap cannot create namespaces on this machine: ${why}` }))
    })
  })
})

/** Checks for mounts by descriptor: in version 0.10, and in security updates of older versions. */
const checkDescriptors = (file: string) =>
  Effect.async<void, BubblewrapUnavailable>((resume) => {
    execFile(file, ["--help"], { timeout: checkMs, killSignal: "SIGKILL" }, (_, stdout) => {
      if (stdout.includes("--ro-bind-fd")) return resume(Effect.void)
      resume(new BubblewrapUnavailable({ message: "this bubblewrap (bwrap) has no --ro-bind-fd; install a newer one" }))
    })
  })

/**
 * A shared check, repeated until it succeeds once. It is uninterruptible: otherwise the interruption of the first
 * caller would be cached as its result. The check has a deadline of its own.
 */
const checkedOnce = <A, E>(check: Effect.Effect<A, E>): Effect.Effect<Effect.Effect<A, E>> =>
  Effect.map(Effect.cachedInvalidateWithTTL(Effect.uninterruptible(check), Duration.infinity), ([result, forget]) =>
    Effect.tapError(result, () => forget)
  )

/** Parses one line of `init`'s reports. */
const parse = (line: string) => {
  const [, word, number, kilobytes] = /^(started|failed|misplaced|ended)(?: (\d+))?(?: (\d+))?$/.exec(line) ?? []
  return { word, number: Number(number ?? 0), bytes: Number(kilobytes ?? 0) * 1024 }
}

/** The longest line of `init`, in bytes. Longer lines are forged. */
const maxLine = 64

/** Decodes a status of wait(2). */
const decode = (status: number): ExitStatus => statusOf((status >> 8) & 0xff, status & 0x7f)

/** The two main processes of a namespace, by their pids on the host. */
interface Contained {
  readonly init: Identity
  readonly program: Identity
}

/** Finds `init`, bubblewrap's only child, and the program, `init`'s only child. Undefined if either has ended. */
const containedIn = (bubblewrap: number): Contained | undefined => {
  const [init] = childrenOf(bubblewrap)
  const [program] = init === undefined ? [] : childrenOf(init.pid)
  return init === undefined || program === undefined ? undefined : { init, program }
}

/** The first free descriptor: 0 to 2 are the program's, 3 is the report pipe. */
const firstFd = 4

/** Bubblewrap's arguments for a child's namespaces, and the path of `init` there. */
const namespaceArguments = ({ confinement }: ChildSpec): Mounting.Mounting & { readonly init: string } => {
  if (confinement === undefined) return { args: contained, fds: [], init: Posix.initProgram() }
  const { args, fds } = Mounting.forProgram(confinement, firstFd)
  return { args: [...confined, ...args], fds, init: Mounting.initPath }
}

/**
 * Prefixes the names of all variables, so that they (`LD_PRELOAD`, for example) do not affect bubblewrap, which runs
 * unconfined. `init` removes the prefix.
 */
const prefixNames = (env: ChildSpec["env"]): ChildSpec["env"] =>
  Object.fromEntries(Object.entries(env).map(([variable, value]) => [`+${variable}`, value]))

/** The variable with the limits that `init` sets for the program. */
const limitsOf = ({ limits }: ChildSpec): ChildSpec["env"] => {
  const text = ChildLimits.textOf(limits)
  return text === undefined ? {} : { LIMITS: text }
}

interface Needs {
  /** The path of the program. */
  readonly bubblewrap: string
  readonly trees: TreesShape
  readonly mounts: SlowMountsShape
  readonly places: PlaceholdersShape
  /** The pids of the processes that enclose confined programs. */
  readonly confined: Set<number>
  readonly writable: WritableFolders.WritableFolders
}

/** Starts bubblewrap, `init` and the program; `reports` reads the report pipe. */
const spawnBubblewrap = ({ bubblewrap, trees }: Needs, spec: ChildSpec, stdio: Posix.Stdio) => {
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  const { args: namespaced, fds, init } = namespaceArguments(spec)
  const argv = [bubblewrap, ...namespaced, "--", init, spec.cwd, file, spec.arg0 ?? name, ...args]
  const [readEnd, writeEnd] = Posix.pipe()
  // O_NOCTTY: the terminal becomes the controlling terminal of the program, not of bubblewrap.
  const terminal = Posix.isTerminal(stdio) ? openSync(stdio.path, constants.O_RDWR | constants.O_NOCTTY) : -1
  const [stdin, stdout, stderr] = Posix.isTerminal(stdio) ? [terminal, terminal, terminal] : stdio
  try {
    const outside = { cwd: spec.cwd, env: { ...prefixNames(spec.env), ...limitsOf(spec) } }
    return inCgroup(trees, spec, (cgroup) => {
      const all = [stdin, stdout, stderr, writeEnd, ...fds] as const
      const outer = run(trees, bubblewrap, argv, outside, all, { cgroup: cgroup?.fd })
      return { outer, cgroup, reports: readEnd }
    })
  } catch (error) {
    closeSync(readEnd)
    throw error
  } finally {
    for (const fd of [writeEnd, ...fds]) closeSync(fd)
    if (terminal !== -1) closeSync(terminal)
  }
}

/** Holds the placeholders and the writable folders of a confinement; returns their release. */
const hold = (
  { places, writable }: Pick<Needs, "places" | "writable">,
  confinement: Confinement | undefined
): (() => void) => {
  const releasePlaces = places.hold(confinement?.placeholders ?? [], confinement?.mounts?.map(({ path }) => path) ?? [])
  const releaseFolders = writable.hold(confinement)
  return () => {
    releasePlaces()
    releaseFolders()
  }
}

/** Starts bubblewrap while the resources of the confinement are held, until `release` is called. */
const spawnHolding = (needs: Needs, spec: ChildSpec, stdio: Posix.Stdio) => {
  const release = hold(needs, spec.confinement)
  try {
    return { ...spawnBubblewrap(needs, spec, stdio), release }
  } catch (error) {
    release()
    throw error
  }
}

/** A running bubblewrap, and what it needs. */
interface Outer {
  readonly outer: Running
  readonly tree: Tree
  /** The pipe on which `init` reports; -1 if it has been read to its end. */
  readonly reports: number
  readonly confinement: Confinement | undefined
  /** Releases what is held for the confinement. */
  readonly release: () => void
}

/** What is known of a namespace. */
interface Standing {
  /** The beginning of a report. */
  readonly rest: string
  /** How the program has ended, as reported. */
  readonly ended: ExitStatus | undefined
  /** The most resident memory of the program, as reported. */
  readonly maxRssBytes: number | null
  /** Whether the server has killed it. */
  readonly killed: boolean
  /** Whether bubblewrap has ended, and that was reported. */
  readonly over: boolean
}

interface Reports {
  /** A line of `init`. */
  readonly onLine: (line: ReturnType<typeof parse>) => void
  /** Bubblewrap has ended. */
  readonly onOver: (status: ExitStatus) => void
}

/** The namespace of a running bubblewrap. */
const enclose = (
  needs: Pick<Needs, "confined">,
  { outer, tree, reports: fd, confinement, release }: Outer,
  standing: Standing
) => {
  const { report, onExit } = makeExit()
  let { rest, ended, maxRssBytes, killed: isKilled, over } = standing
  let reports: Socket | undefined
  let hasBegun = false
  if (confinement !== undefined && !over) needs.confined.add(outer.pid)

  /** Reads the reports. */
  const begin = ({ onLine, onOver }: Reports) => {
    hasBegun = true
    const end = () =>
      outer.onExit((status, usage) => {
        over = true
        // Read before the cgroup is removed.
        const all = ExitUsage.withCgroup(usage && { ...usage, maxRssBytes }, tree.usage())
        release()
        needs.confined.delete(outer.pid)
        tree.reaped()
        onOver(status)
        // Without a report, `init` was killed, and the whole namespace with it. A kill by the server outranks any
        // report.
        report(isKilled && status._tag === "Signaled" ? status : (ended ?? status), all)
      })
    if (fd === -1) return end()
    const stream = new Socket({ fd, readable: true, writable: false })
    reports = stream
    stream.setEncoding("latin1")
    stream.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) {
        const parsed = parse(line)
        if (parsed.word === "ended") {
          ended = decode(parsed.number)
          maxRssBytes = parsed.bytes
        }
        onLine(parsed)
      }
      if (rest.length <= maxLine) return
      stream.destroy()
      tree.signal("SIGKILL", "tree")
    })
    stream.on("error", () => stream.destroy())
    // Bubblewrap holds the pipe open until it exits.
    stream.once("close", end)
  }

  const leaderOf = (found: Partial<Contained>): Leader => ({
    pid: found.program?.pid ?? outer.pid,
    root: tree.root,
    onExit,
    signal: (signal, target) => {
      if (signal === "SIGKILL" && target === "tree") {
        isKilled = true
        return tree.signal(signal, target)
      }
      // The kill is sent later in this turn of the event loop. A later signal must not overtake it.
      if (isKilled) return
      const { init, program } = found
      const current = program === undefined ? undefined : entryOf(program.pid)
      if (program === undefined || current === undefined || isStranger(program, current)) return
      if (target === "leader") return kill(current.pid, signal)
      if (target === "group") return kill(-current.pid, signal)
      if (init === undefined) return
      // All processes of the namespace except `init`.
      for (const { pid } of membersOf(init, table()).values()) if (pid !== init.pid) kill(pid, signal)
    },
    hasRemains: () => !over,
    findRemains: () => !over,
    // The guard need not know it: nothing in a namespace outlives its first process.
    closeTerminal: () => {},
    freeze: (writer) => ({
      pid: found.program?.pid ?? outer.pid,
      tree: tree.freeze(),
      reported: over,
      namespace: {
        init: identity(found.init),
        program: identity(found.program),
        reports: fd === -1 || (hasBegun && reports?.destroyed !== false) ? null : writer.descriptor(fd),
        rest,
        ended,
        ...(maxRssBytes === null ? {} : { maxRssBytes }),
        killed: isKilled,
        confinement
      }
    })
  })

  return { begin, leaderOf, isOver: () => over }
}

const identity = (of: Identity | undefined): Identity | undefined =>
  of === undefined ? undefined : { pid: of.pid, startTime: of.startTime }

const launch = (needs: Needs, spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.gen(function* () {
    const waits = yield* SessionWaits
    yield* MountProbe.check(needs.mounts, needs.trees, () => [spec.cwd, ...Program.candidates(spec)])
    const refused = waits.refusal(false)
    if (refused !== undefined) return yield* refused
    const started = yield* attempt(() => spawnHolding(needs, spec, stdio))
    const { outer, cgroup } = started
    const tree = needs.trees.track(outer.pid, cgroup)
    const fresh = { rest: "", ended: undefined, maxRssBytes: null, killed: false, over: false }
    const space = enclose(needs, { ...started, tree, confinement: spec.confinement }, fresh)

    return yield* Effect.async<Leader, SpawnError>((resume) => {
      const fail = (message: string, isOfCwd = false) => {
        if (!space.isOver()) tree.signal("SIGKILL", "tree")
        resume(new SpawnError({ message, isOfCwd }))
      }
      const endWait = waits.begin((message = `bubblewrap did not start the process within ${answerMs / 1000} s`) =>
        fail(message)
      )
      space.begin({
        onLine: ({ word, number }) => {
          if (word !== "ended") endWait()
          if (word === "started") resume(Effect.succeed(space.leaderOf(containedIn(outer.pid) ?? {})))
          if (word === "failed" || word === "misplaced") {
            fail(OsError.text(OsError.codeName(number)), word === "misplaced")
          }
        },
        onOver: (status) => {
          endWait()
          fail(`bubblewrap could not start the process (${describe(status)})`)
        }
      })
    })
  })

/** A leader in a namespace that the version of the server before has started. */
const adopt = (needs: Omit<Needs, "bubblewrap">, state: LeaderState, namespace: NamespaceState): Leader => {
  const { tree: treeState, reported: over } = state
  const { init, program, reports, confinement } = namespace
  const tree = needs.trees.adopt(treeState)
  const release = over ? () => {} : hold(needs, confinement)
  const space = enclose(
    needs,
    {
      outer: over ? { pid: treeState.pid, onExit: () => {} } : awaitEnd(treeState.pid),
      tree,
      reports: reports ?? -1,
      confinement,
      release
    },
    {
      rest: namespace.rest,
      ended: namespace.ended,
      maxRssBytes: namespace.maxRssBytes ?? null,
      killed: namespace.killed,
      over
    }
  )
  const leader = space.leaderOf({
    ...(init === undefined ? {} : { init }),
    ...(program === undefined ? {} : { program })
  })
  return {
    ...leader,
    pid: state.pid,
    onExit: (listen) => {
      leader.onExit(listen)
      tree.begin()
      if (!over) space.begin({ onLine: () => {}, onOver: () => {} })
    }
  }
}

const startWorker = (
  needs: Needs,
  argv: readonly [program: string, ...args: ReadonlyArray<string>],
  confinement: Confinement,
  stdio: readonly [stdin: number, stdout: number, stderr: number]
): Running & Pick<Tree, "signal"> => {
  const { bubblewrap, trees } = needs
  const release = hold(needs, confinement)
  try {
    const { args, fds } = Mounting.forWorker(confinement, stdio.length)
    try {
      // Without `init`: through another process's /proc/PID/root the worker could leave its root.
      const all = [bubblewrap, ...namespaces, "--unshare-ipc", ...args, "--", ...argv]
      const outer = run(trees, bubblewrap, all, { cwd: "/", env: {} }, [...stdio, ...fds])
      const tree = trees.track(outer.pid)
      return {
        pid: outer.pid,
        signal: tree.signal,
        onExit: (listen) =>
          outer.onExit((status, usage) => {
            release()
            tree.reaped()
            listen(status, usage)
          })
      }
    } finally {
      for (const fd of fds) closeSync(fd)
    }
  } catch (error) {
    release()
    throw error
  }
}

const describe = (status: ExitStatus): string => {
  switch (status._tag) {
    case "Exited":
      return `status ${status.code}`
    case "Signaled":
      return status.signal
    case "Lost":
      return status.reason
  }
}

/** Starts processes in namespaces with bubblewrap. */
export class Bubblewrap extends Context.Tag("exec-server/Bubblewrap")<
  Bubblewrap,
  {
    /** Checks that bubblewrap works on this machine. */
    readonly check: Effect.Effect<void, BubblewrapUnavailable>
    /** Checks that it can also mount by descriptor, as sandboxes require. */
    readonly checkConfining: Effect.Effect<void, BubblewrapUnavailable>
    /** Starts a child in a PID namespace, and in its confinement if it has one. */
    readonly launch: (spec: ChildSpec, stdio: Posix.Stdio) => Effect.Effect<Leader, SpawnError>
    /** Hands over the leaders in namespaces. */
    readonly handover: ConfinedHandover
    /** The same for a launcher that starts every leader in a namespace. */
    readonly handoverOfAll: LeaderHandover
    /** The pids of the roots of running confined programs' trees. */
    readonly confined: () => ReadonlySet<number>
    /** Why these limits cannot be enforced for a child; undefined if they can. */
    readonly refusalOf: (limits: ChildLimits.ChildLimits) => string | undefined
    /** Waits until all slow mounts that these paths lead to have answered; fails if one does not in time. */
    readonly probe: (paths: () => ReadonlyArray<string>) => Effect.Effect<void, SpawnError>
    /** Whether a path leads to a mount that may hang. */
    readonly mayHang: (path: string) => boolean
    /** The folders that running sandboxes can write. */
    readonly writable: WritableFolders.WritableFolders
    /** Whether a directory is a placeholder of a running sandbox. */
    readonly isPlaceholder: (path: string) => boolean
    /** Starts a file worker with the files of a confinement at `viewPath`, its root once it calls chroot. */
    readonly startWorker: (
      argv: readonly [program: string, ...args: ReadonlyArray<string>],
      confinement: Confinement,
      stdio: readonly [stdin: number, stdout: number, stderr: number]
    ) => Effect.Effect<Running & Pick<Tree, "signal">, SpawnError | BubblewrapUnavailable>
  }
>() {
  /** Bubblewrap with the current process trees and placeholders. */
  static readonly layer: Layer.Layer<Bubblewrap, never, ProcessTrees | Placeholders> = Layer.effect(
    Bubblewrap,
    Effect.gen(function* () {
      const trees = yield* ProcessTrees
      const mounts = yield* SlowMounts
      const places = yield* Placeholders
      const confined = new Set<number>()
      const writable = WritableFolders.make()
      const needs = { trees, mounts, places, confined, writable }
      const program = yield* checkedOnce(find)
      const handover: ConfinedHandover = {
        freeze: places.freeze,
        restore: places.restore,
        begin: places.releaseOthers,
        adopt: (state) => {
          if (state.namespace === undefined) throw new Error("the state is not of a leader in a namespace")
          return adopt(needs, state, state.namespace)
        }
      }
      return {
        handover,
        handoverOfAll: handoverOf(trees, handover),
        check: Effect.asVoid(program),
        refusalOf: refusalIn(trees),
        confined: () => confined,
        probe: (paths) => MountProbe.check(mounts, trees, paths),
        mayHang: (path) => mounts.find(path) !== undefined,
        writable,
        isPlaceholder: places.has,
        checkConfining: yield* checkedOnce(Effect.flatMap(program, checkDescriptors)),
        launch: (spec, stdio) =>
          program.pipe(
            Effect.mapError(({ message }) => new SpawnError({ message })),
            Effect.flatMap((bubblewrap) => launch({ bubblewrap, ...needs }, spec, stdio))
          ),
        startWorker: (argv, confinement, stdio) =>
          Effect.flatMap(program, (bubblewrap) =>
            attempt(() => startWorker({ bubblewrap, ...needs }, argv, confinement, stdio))
          )
      }
    })
  )

  /** `layer` with its own process trees, guard and placeholders, or those already in the context. */
  static readonly layerReal: Layer.Layer<Bubblewrap> = Bubblewrap.layer.pipe(
    provideInOrder(Guard.layer, ProcessTrees.layer, Placeholders.layer)
  )
}

/** Starts confined programs with bubblewrap. */
export const layerConfined: Layer.Layer<never, never, Bubblewrap> = Layer.effect(
  ConfinedLauncher,
  Effect.map(Bubblewrap, ({ launch, handover }) => ({ launch, handover }))
)

/** Starts every program in its own PID namespace. */
const layerLauncher: Layer.Layer<Launcher, BubblewrapUnavailable, Bubblewrap> = Layer.effect(
  Launcher,
  Effect.gen(function* () {
    const bubblewrap = yield* Bubblewrap
    yield* bubblewrap.check.pipe(
      Effect.mapError(({ message }) => new BubblewrapUnavailable({ message: `cannot contain processes: ${message}` }))
    )
    return {
      confines: true,
      refusalOf: bubblewrap.refusalOf,
      launch: bubblewrap.launch,
      handover: bubblewrap.handoverOfAll
    }
  })
)

/** Spawns children directly, and confined ones with bubblewrap. */
export const layerSpawner: Layer.Layer<Spawner> = Spawner.layer.pipe(
  provideInOrder(Bubblewrap.layerReal, layerConfined)
)

/** Spawns every child in its own PID namespace; fails if bubblewrap cannot create them. */
export const layerSpawnerContained: Layer.Layer<Spawner, BubblewrapUnavailable> = Spawner.layerReal.pipe(
  provideInOrder(Bubblewrap.layerReal, layerLauncher)
)
