/**
 * Starts programs when a file system may not answer: each start on its own thread, with a time limit.
 *
 * While there is a slow mount, every start is one of these, even if its own paths lead elsewhere: a script may name an
 * interpreter on that mount, and a link may change after it was examined.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { describe, text } from "../protocol/OsError.js"
import { attempt, type ChildSpec, SpawnError } from "./Child.js"
import * as Posix from "./Posix.js"
import * as Program from "./Program.js"
import { SessionWaits, type Waits } from "./SessionWaits.js"
import { answerMs, hangTextOf, type Shape as SlowMountsShape } from "./SlowMounts.js"

/** The options of a start. */
export interface Options {
  readonly mounts: SlowMountsShape
  readonly spec: ChildSpec
  readonly stdio: Posix.Stdio
  readonly guard: number
  readonly bounds?: Posix.Bounds | undefined
  /** Called once with the end of the child, as by `Posix.spawn`. */
  readonly onExit: Posix.OnExit
  /** Called with a child that started too late, to kill it. */
  readonly onLate: (pid: number) => void
}

/** What a start may be waiting for, as text. */
const culprit = ({ mounts, spec }: Pick<Options, "mounts" | "spec">, files: ReadonlyArray<string>): string => {
  const cwd = mounts.find(spec.cwd)
  if (cwd !== undefined) return hangTextOf(`the working directory ${spec.cwd}`, cwd)
  for (const file of files) {
    const mount = mounts.find(file)
    if (mount !== undefined) return hangTextOf(`the program path ${file}`, mount)
  }
  return `the program did not start within ${answerMs / 1000} s: a file system hangs that it needs, or the machine is overloaded`
}

const leadsToSlowMount = ({ mounts, spec }: Options, files: ReadonlyArray<string>): boolean =>
  [spec.cwd, ...files].some((path) => mounts.find(path) !== undefined)

interface Started {
  readonly pid: number
  readonly file: string
}

type Attempt = Started | { readonly fault: ReturnType<typeof Posix.startFault>; readonly file: string }

const failed = ({ code, isOfCwd }: ReturnType<typeof Posix.startFault>) =>
  new SpawnError({ message: text(code), isOfCwd })

/** One start. Fails after the time limit. */
const startOnce = (
  options: Options,
  waits: Waits,
  files: ReadonlyArray<string>,
  argv: ReadonlyArray<string>
): Effect.Effect<Attempt, SpawnError> =>
  Effect.async<Attempt, SpawnError>((resume) => {
    const { spec, stdio, guard, bounds, onExit, onLate } = options
    const refused = waits.refusal(leadsToSlowMount(options, files))
    if (refused !== undefined) return resume(refused)
    const env = Object.entries(spec.env).map(([variable, value]) => `${variable}=${value}`)
    let isGivenUp = false
    let abandon = () => {}
    const over = waits.begin((message) => {
      isGivenUp = true
      // Before the kill: afterwards the child may be gone, and the mount that it waited for could not be named.
      resume(new SpawnError({ message: message ?? culprit(options, files) }))
      abandon()
    })
    const onStarted = (result: number, index: number) => {
      over()
      const file = files[index] ?? ""
      if (!isGivenUp)
        return resume(Effect.succeed(result > 0 ? { pid: result, file } : { fault: Posix.startFault(result), file }))
      if (result > 0) onLate(result)
    }
    try {
      abandon = Posix.spawnSlowly({ files, argv, env, cwd: spec.cwd, stdio, guard, bounds, onExit, onStarted })
    } catch (error) {
      over()
      resume(new SpawnError({ message: describe(error) }))
    }
  })

/**
 * Starts the program of a child, registered with a guard; returns its pid. Takes at most `answerMs` for each of two
 * attempts. `shell` runs executable files without a known format or a `#!` line.
 */
export const start = (options: Options, shell: string): Effect.Effect<number, SpawnError> =>
  Effect.gen(function* () {
    const waits = yield* SessionWaits
    const { spec } = options
    const files = yield* attempt(() => Program.candidates(spec))
    const [name = "", ...args] = spec.argv
    const first = yield* startOnce(options, waits, files, [spec.arg0 ?? name, ...args])
    if ("pid" in first) return first.pid
    if (first.fault.code !== "ENOEXEC") return yield* failed(first.fault)
    const second = yield* startOnce(options, waits, [shell], [shell, first.file, ...args])
    return "pid" in second ? second.pid : yield* failed(second.fault)
  })
