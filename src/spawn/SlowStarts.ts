/**
 * Starts programs when a file system may not answer: each start on its own thread, with a time limit.
 *
 * While there is a slow mount, every start is one of these, even if its own paths lead elsewhere: a script may name an
 * interpreter on that mount, and a link may change after it was examined.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { codeName, describe, text } from "../protocol/OsError.js"
import { attempt, type ChildSpec, SpawnError } from "./Child.js"
import * as Posix from "./Posix.js"
import * as Program from "./Program.js"
import { answerMs, type Shape as SlowMountsShape } from "./SlowMounts.js"

/** The most starts of one session that may still hang after their time limit. */
export const maxStuck = 8

/** The same for a server. Beyond it, only starts on slow mounts are refused. */
export const maxStuckOfServer = 32

/** Counts starts that exceeded their time limit and still hold a thread. */
export interface Count {
  count: number
}

/** The count of a session. */
export class StuckStarts extends Context.Reference<StuckStarts>()("exec-server/StuckStarts", {
  defaultValue: (): Count => ({ count: 0 })
}) {}

/** The options of a start. */
export interface Options {
  readonly mounts: SlowMountsShape
  readonly spec: ChildSpec
  readonly stdio: Posix.Stdio
  readonly guard: number
  /** The count of the server. */
  readonly all: Count
  /** Called once with the exit of the child: status and signal, as by `Posix.spawn`. */
  readonly onExit: (code: number, signal: number) => void
  /** Called with a child that started too late, to kill it. */
  readonly onLate: (pid: number) => void
}

/** What a start may be waiting for, as text. */
const culprit = ({ mounts, spec }: Pick<Options, "mounts" | "spec">, files: ReadonlyArray<string>): string => {
  const cwd = mounts.find(spec.cwd)
  const about = (what: string, path: string, type: string) =>
    `${what} ${path} did not answer within ${answerMs / 1000} s: its file system (${type}) hangs`
  if (cwd !== undefined) return about("the working directory", spec.cwd, cwd.type)
  for (const file of files) {
    const mount = mounts.find(file)
    if (mount !== undefined) return about("the program path", file, mount.type)
  }
  return `the program did not start within ${answerMs / 1000} s: a file system hangs that it needs, or the machine is overloaded`
}

const leadsToSlowMount = ({ mounts, spec }: Options, files: ReadonlyArray<string>): boolean =>
  [spec.cwd, ...files].some((path) => mounts.find(path) !== undefined)

const refusal = (options: Options, files: ReadonlyArray<string>, own: Count) => {
  const refuse = (count: number, whose: string) =>
    new SpawnError({
      message: `${count} starts of ${whose} wait for file systems that do not answer: unmount these (umount -l, or abort the FUSE connection) first`
    })
  if (own.count >= maxStuck) return refuse(own.count, "this session")
  const { count } = options.all
  if (count >= maxStuckOfServer && leadsToSlowMount(options, files)) return refuse(count, "this server")
  return undefined
}

interface Started {
  readonly pid: number
  readonly file: string
}

type Attempt = Started | { readonly error: number; readonly file: string }

/** One start. Fails after the time limit. */
const startOnce = (
  { spec, stdio, guard, all, onExit, onLate, mounts }: Options,
  own: Count,
  files: ReadonlyArray<string>,
  argv: ReadonlyArray<string>
): Effect.Effect<Attempt, SpawnError> =>
  Effect.async<Attempt, SpawnError>((resume) => {
    let isStuck = false
    const env = Object.entries(spec.env).map(([variable, value]) => `${variable}=${value}`)
    const count = (change: number) => {
      own.count += change
      all.count += change
    }
    const onStarted = (result: number, index: number) => {
      clearTimeout(timer)
      const file = files[index] ?? ""
      if (!isStuck) return resume(Effect.succeed(result > 0 ? { pid: result, file } : { error: -result, file }))
      count(-1)
      if (result > 0) onLate(result)
    }
    let abandon = () => {}
    const timer = setTimeout(() => {
      isStuck = true
      count(1)
      // Before the kill: afterwards the child may be gone, and what it waited for could not be named.
      resume(new SpawnError({ message: culprit({ mounts, spec }, files) }))
      abandon()
    }, answerMs)
    try {
      abandon = Posix.spawnSlowly({ files, argv, env, cwd: spec.cwd, stdio, guard, onExit, onStarted })
    } catch (error) {
      clearTimeout(timer)
      resume(new SpawnError({ message: describe(error) }))
    }
  })

/**
 * Starts the program of a child, registered with a guard; returns its pid. Takes at most `answerMs` for each of two
 * attempts. `shell` runs executable files without a known format or a `#!` line.
 */
export const start = (options: Options, shell: string): Effect.Effect<number, SpawnError> =>
  Effect.gen(function* () {
    const own = yield* StuckStarts
    const { spec } = options
    const files = yield* attempt(() => Program.candidates(spec))
    const refused = refusal(options, files, own)
    if (refused !== undefined) return yield* refused
    const [name = "", ...args] = spec.argv
    const first = yield* startOnce(options, own, files, [spec.arg0 ?? name, ...args])
    if ("pid" in first) return first.pid
    if (codeName(first.error) !== "ENOEXEC") return yield* new SpawnError({ message: text(codeName(first.error)) })
    const second = yield* startOnce(options, own, [shell], [shell, first.file, ...args])
    return "pid" in second ? second.pid : yield* new SpawnError({ message: text(codeName(second.error)) })
  })
