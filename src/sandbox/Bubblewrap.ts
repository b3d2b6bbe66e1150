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
import type { Confinement } from "../spawn/Confinement.js"
import * as ExitUsage from "../spawn/ExitUsage.js"
import { Guard } from "../spawn/Guard.js"
import {
  ConfinedLauncher,
  inCgroup,
  Launcher,
  type Leader,
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
  const [, word, number, kilobytes] = /^(started|failed|ended)(?: (\d+))?(?: (\d+))?$/.exec(line) ?? []
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
      return { outer, cgroup, reports: new Socket({ fd: readEnd, readable: true, writable: false }) }
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
const hold = ({ places, writable }: Needs, confinement: Confinement | undefined): (() => void) => {
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

const launch = (needs: Needs, spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.gen(function* () {
    const waits = yield* SessionWaits
    yield* MountProbe.check(needs.mounts, needs.trees, () => [spec.cwd, ...Program.candidates(spec)])
    const refused = waits.refusal(false)
    if (refused !== undefined) return yield* refused
    const { outer, cgroup, reports, release } = yield* attempt(() => spawnHolding(needs, spec, stdio))
    const tree = needs.trees.track(outer.pid, cgroup)
    if (spec.confinement !== undefined) needs.confined.add(outer.pid)
    const { report, onExit } = makeExit()
    let ended: ExitStatus | undefined
    let maxRssBytes: number | null = null
    let over = false
    let isKilled = false

    const leaderOf = (found: Contained | undefined): Leader => ({
      pid: found?.program.pid ?? outer.pid,
      root: tree.root,
      onExit,
      signal: (signal, target) => {
        if (signal === "SIGKILL" && target === "tree") {
          isKilled = true
          return tree.signal(signal, target)
        }
        // The kill is sent later in this turn of the event loop. A later signal must not overtake it.
        if (isKilled) return
        const current = found === undefined ? undefined : entryOf(found.program.pid)
        if (found === undefined || current === undefined || isStranger(found.program, current)) return
        if (target === "leader") return kill(current.pid, signal)
        if (target === "group") return kill(-current.pid, signal)
        // All processes of the namespace except `init`.
        for (const { pid } of membersOf(found.init, table()).values()) if (pid !== found.init.pid) kill(pid, signal)
      },
      hasRemains: () => !over,
      findRemains: () => !over,
      // The guard need not know it: nothing in a namespace outlives its first process.
      closeTerminal: () => {}
    })

    return yield* Effect.async<Leader, SpawnError>((resume) => {
      const fail = (message: string) => {
        if (!over) tree.signal("SIGKILL", "tree")
        resume(new SpawnError({ message }))
      }
      const endWait = waits.begin((message = `bubblewrap did not start the process within ${answerMs / 1000} s`) =>
        fail(message)
      )
      const take = (line: string) => {
        const { word, number, bytes } = parse(line)
        if (word === "ended") {
          ended = decode(number)
          maxRssBytes = bytes
        } else endWait()
        if (word === "started") resume(Effect.succeed(leaderOf(containedIn(outer.pid))))
        if (word === "failed") fail(OsError.text(OsError.codeName(number)))
      }
      let rest = ""
      reports.setEncoding("latin1")
      reports.on("data", (text: string) => {
        const lines = (rest + text).split("\n")
        rest = lines.pop() ?? ""
        for (const line of lines) take(line)
        if (rest.length <= maxLine) return
        reports.destroy()
        tree.signal("SIGKILL", "tree")
      })
      reports.on("error", () => reports.destroy())
      // Bubblewrap holds the pipe open until it exits.
      reports.once("close", () =>
        outer.onExit((status, usage) => {
          over = true
          const all = ExitUsage.withCgroup(usage && { ...usage, maxRssBytes }, cgroup?.usage())
          endWait()
          release()
          needs.confined.delete(outer.pid)
          tree.reaped()
          fail(`bubblewrap could not start the process (${describe(status)})`)
          // Without a report, `init` was killed, and the whole namespace with it. A kill by the server outranks any
          // report.
          report(isKilled && status._tag === "Signaled" ? status : (ended ?? status), all)
        })
      )
    })
  })

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
      return {
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
  Effect.map(Bubblewrap, ({ launch }) => ({ launch }))
)

/** Starts every program in its own PID namespace. */
const layerLauncher: Layer.Layer<Launcher, BubblewrapUnavailable, Bubblewrap> = Layer.effect(
  Launcher,
  Effect.gen(function* () {
    const bubblewrap = yield* Bubblewrap
    yield* bubblewrap.check.pipe(
      Effect.mapError(({ message }) => new BubblewrapUnavailable({ message: `cannot contain processes: ${message}` }))
    )
    return { confines: true, refusalOf: bubblewrap.refusalOf, launch: bubblewrap.launch }
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
