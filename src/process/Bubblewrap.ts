/**
 * Children in namespaces of their own, made by bubblewrap: nothing of such a child outlives it, wherever it went.
 *
 * What bubblewrap runs is `native/init.c`, the namespace's first process. It tells what the program's start and end were,
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
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { attempt, type ChildSpec, type ExitStatus, SpawnError } from "./Child.js"
import { Forest, type Shape as ForestShape } from "./Forest.js"
import { Launcher, type Leader, makeExit, run, statusOf } from "./Launch.js"
import * as OsError from "./OsError.js"
import * as Posix from "./Posix.js"
import { childrenOf, entryOf, type Identity, isStranger, kill, membersOf, table } from "./ProcessTree.js"
import * as Program from "./Program.js"

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
  ...["--proc", "/proc"],
  // The server's death is theirs, also without the guard.
  "--die-with-parent",
  // Otherwise root would lose its privileges within; nobody else has any to keep.
  ...(process.getuid?.() === 0 ? ["--cap-add", "ALL"] : [])
]

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
  const args = [...wholeFileSystem, ...namespaces, "--", "true"]
  return Effect.async<string, BubblewrapUnavailable>((resume) => {
    execFile(file, args, { timeout: checkMs, killSignal: "SIGKILL" }, (error, _, stderr) => {
      if (error === null) return resume(Effect.succeed(file))
      const why = stderr.trim().split("\n", 1)[0] || error.message
      resume(new BubblewrapUnavailable({ message: `bubblewrap cannot make namespaces here: ${why}` }))
    })
  })
})

/** What `init` reports, a line each. */
const parse = (line: string) => {
  const [, word, number] = /^(started|failed|ended)(?: (\d+))?$/.exec(line) ?? []
  return { word, number: Number(number ?? 0) }
}

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

/** Starts bubblewrap, `init` and the program, of which the socket brings the reports. */
const begin = (bubblewrap: string, spec: ChildSpec, stdio: Posix.Stdio) => {
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  const init = [Posix.initProgram(), spec.cwd, spec.env["PWD"] ?? "", file, spec.arg0 ?? name, ...args]
  const argv = [bubblewrap, ...wholeFileSystem, ...namespaces, "--", ...init]
  const [readEnd, writeEnd] = Posix.pipe()
  // The program becomes the terminal's owner, not bubblewrap.
  const terminal = typeof stdio === "string" ? openSync(stdio, constants.O_RDWR | constants.O_NOCTTY) : -1
  const [stdin, stdout, stderr] = typeof stdio === "string" ? [terminal, terminal, terminal] : stdio
  try {
    const outer = run(bubblewrap, argv, spec, [stdin, stdout, stderr, writeEnd])
    return { outer, reports: new Socket({ fd: readEnd, readable: true, writable: false }) }
  } catch (error) {
    closeSync(readEnd)
    throw error
  } finally {
    closeSync(writeEnd)
    if (terminal !== -1) closeSync(terminal)
  }
}

const launch = (bubblewrap: string, plant: ForestShape["plant"], spec: ChildSpec, stdio: Posix.Stdio) =>
  Effect.flatMap(
    attempt(() => begin(bubblewrap, spec, stdio)),
    ({ outer, reports }) => {
      const tree = plant(outer.pid)
      const { report, onExit } = makeExit()
      let ended: ExitStatus | undefined
      let over = false

      const leaderOf = (found: Contained | undefined): Leader => ({
        pid: found?.program.pid ?? outer.pid,
        onExit,
        signal: (signal, target) => {
          if (signal === "SIGKILL" && target === "tree") return tree.signal(signal, target)
          const current = found === undefined ? undefined : entryOf(found.program.pid)
          if (found === undefined || current === undefined || isStranger(found.program, current)) return
          if (target === "leader") return kill(current.pid, signal)
          if (target === "group") return kill(-current.pid, signal)
          // Everything in the namespace but its first process.
          for (const { pid } of membersOf(found.init, table()).values()) if (pid !== found.init.pid) kill(pid, signal)
        },
        hasRemains: () => !over
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
        })
        reports.on("error", () => reports.destroy())
        // Held open until bubblewrap itself has ended.
        reports.once("close", () =>
          outer.onExit((status) => {
            over = true
            clearTimeout(late)
            tree.reaped()
            fail(`bubblewrap could not start the process (${describe(status)})`)
            // Without the word of `init` it was killed, and everything in the namespace with it.
            report(ended ?? status)
          })
        )
      })
    }
  )

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
    /** Starts the program of a child in a PID namespace. */
    readonly launch: (spec: ChildSpec, stdio: Posix.Stdio) => Effect.Effect<Leader, SpawnError>
  }
>() {
  static readonly layer: Layer.Layer<Bubblewrap, never, Forest> = Layer.effect(
    Bubblewrap,
    Effect.gen(function* () {
      const { plant } = yield* Forest
      const program = yield* Effect.cached(find)
      return {
        check: Effect.asVoid(program),
        launch: (spec, stdio) =>
          program.pipe(
            Effect.mapError(({ message }) => new SpawnError({ message })),
            Effect.flatMap((file) => launch(file, plant, spec, stdio))
          )
      }
    })
  )
}

/** A launcher that starts every program in a PID namespace of its own. */
export const layerLauncher: Layer.Layer<Launcher, BubblewrapUnavailable, Bubblewrap> = Layer.effect(
  Launcher,
  Effect.gen(function* () {
    const bubblewrap = yield* Bubblewrap
    yield* bubblewrap.check.pipe(
      Effect.mapError(({ message }) => new BubblewrapUnavailable({ message: `cannot contain processes: ${message}` }))
    )
    return { launch: bubblewrap.launch }
  })
)
