/**
 * Children in namespaces of their own, made by bubblewrap: nothing of such a child outlives it, wherever it went.
 *
 * What bubblewrap runs is `spawn/native/init.c`, the namespace's first process. It tells what the program's start and end were,
 * which bubblewrap itself does not know, or not exactly.
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
import { attempt, type ChildSpec, type ExitStatus, SpawnError } from "../spawn/Child.js"
import type { Confinement } from "../spawn/Confinement.js"
import { Guard } from "../spawn/Guard.js"
import { ConfinedLauncher, Launcher, type Leader, makeExit, type Running, run, statusOf } from "../spawn/Launcher.js"
import * as Posix from "../spawn/Posix.js"
import { childrenOf, entryOf, type Identity, isStranger, kill, membersOf, table } from "../spawn/ProcessTree.js"
import { ProcessTrees, type Tree, type Shape as TreesShape } from "../spawn/ProcessTrees.js"
import * as Program from "../spawn/Program.js"
import { Spawner } from "../spawn/Spawner.js"
import * as Mounting from "./Mounting.js"
import { Placeholders, type Shape as PlaceholdersShape } from "./Placeholders.js"

/** Bubblewrap is not there, or cannot make namespaces here; the message says what to do. */
export class BubblewrapUnavailable extends Data.TaggedError("BubblewrapUnavailable")<{ readonly message: string }> {}

/** How long the start of a contained program may take, in milliseconds. */
const startMs = 10000

/** How long the test whether bubblewrap works here may take, in milliseconds. */
const checkMs = 10000

/** What a program sees besides its own processes: everything there is. */
const wholeFileSystem = ["--dev-bind", "/", "/"]

const namespaces = [
  // Its first process is `init`; when that ends the kernel kills all others.
  ...["--unshare-pid", "--as-pid-1"],
  // The server's death is theirs, also without the guard.
  "--die-with-parent"
]

const contained = [
  ...namespaces,
  ...wholeFileSystem,
  ...["--proc", "/proc"],
  // Otherwise root would lose its privileges within; nobody else has any to keep.
  ...(process.getuid?.() === 0 ? ["--cap-add", "ALL"] : [])
]

/** Root loses its privileges: with them it could undo the confinement. */
const confined = [...namespaces, "--unshare-ipc", "--cap-drop", "ALL"]

const locate = (): string | undefined =>
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

/** Runs a program that does nothing in the namespaces. */
const find = Effect.suspend(() => {
  const file = locate()
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
      resume(new BubblewrapUnavailable({ message: `bubblewrap cannot make namespaces here: ${why}` }))
    })
  })
})

/** Mounts by descriptor came with version 0.10, and to older ones by security updates. */
const checkDescriptors = (file: string) =>
  Effect.async<void, BubblewrapUnavailable>((resume) => {
    execFile(file, ["--help"], { timeout: checkMs, killSignal: "SIGKILL" }, (_, stdout) => {
      if (stdout.includes("--ro-bind-fd")) return resume(Effect.void)
      resume(new BubblewrapUnavailable({ message: "this bubblewrap (bwrap) has no --ro-bind-fd; install a newer one" }))
    })
  })

/**
 * A check that everybody shares and that is not made again once it has succeeded. It goes on when whoever asked first
 * is gone: that would be remembered as its result. It is bounded by itself.
 */
const checkedOnce = <A, E>(check: Effect.Effect<A, E>): Effect.Effect<Effect.Effect<A, E>> =>
  Effect.map(Effect.cachedInvalidateWithTTL(Effect.uninterruptible(check), Duration.infinity), ([result, forget]) =>
    Effect.tapError(result, () => forget)
  )

/** What `init` reports, a line each. */
const parse = (line: string) => {
  const [, word, number] = /^(started|failed|ended)(?: (\d+))?$/.exec(line) ?? []
  return { word, number: Number(number ?? 0) }
}

/** The longest line of `init`, in bytes. Whoever writes more is not `init`. */
const maxLine = 64

/** A status as wait(2) gives it. */
const decode = (status: number): ExitStatus => statusOf((status >> 8) & 0xff, status & 0x7f)

/** The two that matter in a namespace, by the host's numbers. */
interface Contained {
  readonly init: Identity
  readonly program: Identity
}

/** What runs in the namespace: the only child of bubblewrap, and the only child of that. Nothing if it has ended. */
const containedIn = (bubblewrap: number): Contained | undefined => {
  const [init] = childrenOf(bubblewrap)
  const [program] = init === undefined ? [] : childrenOf(init.pid)
  return init === undefined || program === undefined ? undefined : { init, program }
}

/** The first descriptor after the three of the program and the one of the reports. */
const firstFd = 4

/** The arguments for the namespaces of a child, and for what is its first process there. */
const enclose = ({ confinement }: ChildSpec): Mounting.Mounting & { readonly init: string } => {
  if (confinement === undefined) return { args: contained, fds: [], init: Posix.initProgram() }
  const { args, fds } = Mounting.forProgram(confinement, firstFd)
  return { args: [...confined, ...args], fds, init: Mounting.initPath }
}

/** Under names by which they mean nothing to bubblewrap, which is not confined; `init` gives them back their own. */
const veiled = (env: ChildSpec["env"]): ChildSpec["env"] =>
  Object.fromEntries(Object.entries(env).map(([variable, value]) => [`+${variable}`, value]))

interface Needs {
  readonly bubblewrap: string
  readonly trees: TreesShape
  readonly places: PlaceholdersShape
  /** The processes that enclose confined programs, by their pids. */
  readonly confined: Set<number>
}

/** Starts bubblewrap, `init` and the program, of which the socket brings the reports. */
const begin = ({ bubblewrap, trees }: Needs, spec: ChildSpec, stdio: Posix.Stdio) => {
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  const { args: namespaced, fds, init } = enclose(spec)
  const argv = [bubblewrap, ...namespaced, "--", init, spec.cwd, file, spec.arg0 ?? name, ...args]
  const [readEnd, writeEnd] = Posix.pipe()
  // The program becomes the terminal's owner, not bubblewrap.
  const terminal = Posix.isTerminal(stdio) ? openSync(stdio.path, constants.O_RDWR | constants.O_NOCTTY) : -1
  const [stdin, stdout, stderr] = Posix.isTerminal(stdio) ? [terminal, terminal, terminal] : stdio
  try {
    const outside = { cwd: spec.cwd, env: veiled(spec.env) }
    const outer = run(trees, bubblewrap, argv, outside, [stdin, stdout, stderr, writeEnd, ...fds])
    return { outer, reports: new Socket({ fd: readEnd, readable: true, writable: false }) }
  } catch (error) {
    closeSync(readEnd)
    throw error
  } finally {
    for (const fd of [writeEnd, ...fds]) closeSync(fd)
    if (terminal !== -1) closeSync(terminal)
  }
}

/** Holds the places of a confinement. */
const hold = (places: PlaceholdersShape, confinement: Confinement | undefined): (() => void) =>
  places.hold(confinement?.placeholders ?? [], confinement?.mounts?.map(({ path }) => path) ?? [])

/** Holds the places of a child's confinement while it is started, and until what is given is called. */
const beginHolding = (needs: Needs, spec: ChildSpec, stdio: Posix.Stdio) => {
  const release = hold(needs.places, spec.confinement)
  try {
    return { ...begin(needs, spec, stdio), release }
  } catch (error) {
    release()
    throw error
  }
}

const launch = (needs: Needs, spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.flatMap(
    attempt(() => beginHolding(needs, spec, stdio)),
    ({ outer, reports, release }) => {
      const tree = needs.trees.track(outer.pid)
      if (spec.confinement !== undefined) needs.confined.add(outer.pid)
      const { report, onExit } = makeExit()
      let ended: ExitStatus | undefined
      let over = false
      let isDoomed = false

      const leaderOf = (found: Contained | undefined): Leader => ({
        pid: found?.program.pid ?? outer.pid,
        onExit,
        signal: (signal, target) => {
          if (signal === "SIGKILL" && target === "tree") {
            isDoomed = true
            return tree.signal(signal, target)
          }
          // Killed later in this turn of the event loop: what was asked for after that must not come first.
          if (isDoomed) return
          const current = found === undefined ? undefined : entryOf(found.program.pid)
          if (found === undefined || current === undefined || isStranger(found.program, current)) return
          if (target === "leader") return kill(current.pid, signal)
          if (target === "group") return kill(-current.pid, signal)
          // Everything in the namespace but its first process.
          for (const { pid } of membersOf(found.init, table()).values()) if (pid !== found.init.pid) kill(pid, signal)
        },
        hasRemains: () => !over,
        findRemains: () => !over,
        // The guard has none of it: nothing in a namespace outlives its first process.
        closeTerminal: () => {}
      })

      return Effect.async<Leader, SpawnError>((resume) => {
        const fail = (message: string) => {
          if (!over) tree.signal("SIGKILL", "tree")
          resume(new SpawnError({ message }))
        }
        const late = setTimeout(() => fail(`bubblewrap did not start the process within ${startMs} ms`), startMs)
        const take = (line: string) => {
          const { word, number } = parse(line)
          if (word === "ended") ended = decode(number)
          else clearTimeout(late)
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
        // Held open until bubblewrap itself has ended.
        reports.once("close", () =>
          outer.onExit((status) => {
            over = true
            clearTimeout(late)
            release()
            needs.confined.delete(outer.pid)
            tree.reaped()
            fail(`bubblewrap could not start the process (${describe(status)})`)
            // Without the word of `init` it was killed, and everything in the namespace with it. A kill of ours is what
            // ended it, whatever was said before.
            report(isDoomed && status._tag === "Signaled" ? status : (ended ?? status))
          })
        )
      })
    }
  )

const startWorker = (
  { bubblewrap, trees, places }: Needs,
  argv: readonly [program: string, ...args: ReadonlyArray<string>],
  confinement: Confinement,
  stdio: readonly [stdin: number, stdout: number, stderr: number]
): Running & Pick<Tree, "signal"> => {
  const release = hold(places, confinement)
  try {
    const { args, fds } = Mounting.forWorker(confinement, stdio.length)
    try {
      // Without `init`: the worker has no process beside it whose root could lead it out.
      const all = [bubblewrap, ...namespaces, "--unshare-ipc", ...args, "--", ...argv]
      const outer = run(trees, bubblewrap, all, { cwd: "/", env: {} }, [...stdio, ...fds])
      const tree = trees.track(outer.pid)
      return {
        pid: outer.pid,
        signal: tree.signal,
        onExit: (listen) =>
          outer.onExit((status) => {
            release()
            tree.reaped()
            listen(status)
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

/** Finds bubblewrap, once, and starts leaders by it. */
export class Bubblewrap extends Context.Tag("exec-server/Bubblewrap")<
  Bubblewrap,
  {
    /** Whether it works here. */
    readonly check: Effect.Effect<void, BubblewrapUnavailable>
    /** Whether it can also mount exactly what was looked at. */
    readonly checkConfining: Effect.Effect<void, BubblewrapUnavailable>
    /** Starts the program of a child in a PID namespace, and in its confinement if it has one. */
    readonly launch: (spec: ChildSpec, stdio: Posix.Stdio) => Effect.Effect<Leader, SpawnError>
    /** The roots of the trees of confined programs that run now, by pid. */
    readonly confined: () => ReadonlySet<number>
    /** Starts a worker that will make a confinement its root, on stdin and stdout. */
    readonly startWorker: (
      argv: readonly [program: string, ...args: ReadonlyArray<string>],
      confinement: Confinement,
      stdio: readonly [stdin: number, stdout: number, stderr: number]
    ) => Effect.Effect<Running & Pick<Tree, "signal">, SpawnError | BubblewrapUnavailable>
  }
>() {
  /** Bubblewrap with the process trees and the placeholders at hand. */
  static readonly layer: Layer.Layer<Bubblewrap, never, ProcessTrees | Placeholders> = Layer.effect(
    Bubblewrap,
    Effect.gen(function* () {
      const trees = yield* ProcessTrees
      const places = yield* Placeholders
      const confined = new Set<number>()
      const program = yield* checkedOnce(find)
      return {
        check: Effect.asVoid(program),
        confined: () => confined,
        checkConfining: yield* checkedOnce(Effect.flatMap(program, checkDescriptors)),
        launch: (spec, stdio) =>
          program.pipe(
            Effect.mapError(({ message }) => new SpawnError({ message })),
            Effect.flatMap((bubblewrap) => launch({ bubblewrap, trees, places, confined }, spec, stdio))
          ),
        startWorker: (argv, confinement, stdio) =>
          Effect.flatMap(program, (bubblewrap) =>
            attempt(() => startWorker({ bubblewrap, trees, places, confined }, argv, confinement, stdio))
          )
      }
    })
  )

  /** The same, with process trees and a guard of its own, or shared ones. */
  static readonly layerReal: Layer.Layer<Bubblewrap> = Bubblewrap.layer.pipe(
    provideInOrder(Guard.layer, ProcessTrees.layer, Placeholders.layer)
  )
}

/** Confined programs are started by bubblewrap. */
export const layerConfined: Layer.Layer<never, never, Bubblewrap> = Layer.effect(
  ConfinedLauncher,
  Effect.map(Bubblewrap, ({ launch }) => ({ launch }))
)

/** Every program is started in a PID namespace of its own. */
const layerLauncher: Layer.Layer<Launcher, BubblewrapUnavailable, Bubblewrap> = Layer.effect(
  Launcher,
  Effect.gen(function* () {
    const bubblewrap = yield* Bubblewrap
    yield* bubblewrap.check.pipe(
      Effect.mapError(({ message }) => new BubblewrapUnavailable({ message: `cannot contain processes: ${message}` }))
    )
    return { confines: true, launch: bubblewrap.launch }
  })
)

/** Real children among the server's own processes; the confined ones by bubblewrap. */
export const layerSpawner: Layer.Layer<Spawner> = Spawner.layer.pipe(
  provideInOrder(Bubblewrap.layerReal, layerConfined)
)

/** Real children in PID namespaces of their own; fails where bubblewrap cannot make these. */
export const layerSpawnerContained: Layer.Layer<Spawner, BubblewrapUnavailable> = Spawner.layerReal.pipe(
  provideInOrder(Bubblewrap.layerReal, layerLauncher)
)
