/**
 * Watches missing paths until one of them may have been created.
 *
 * It watches every existing directory on the path, each for the name of the next component. Other events in these
 * directories cost one comparison.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { type FSWatcher, watch as watchDirectory } from "node:fs"
import { lstat, realpath, statfs } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { join, type NativePath, names } from "./NativePath.js"
import { attempt } from "./SystemError.js"

/** The most missing paths of one watch. */
const maxPaths = 64

/** The most directories of one watch; each takes an inotify watch. */
const maxDirectories = 64

/**
 * File systems on which inotify misses changes: virtual ones, whose content is computed when it is read, and those that
 * other machines change. The numbers are the f_type of statfs(2).
 */
const unwatchable: ReadonlySet<number> = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x6969, // nfs
  0xff534d42, // cifs
  0xfe534d42, // smb2
  0x01021997, // 9p
  0x65735546 // fuse
])

/** Whether inotify reports every change in a directory. */
const isWatchable = (path: NativePath) =>
  Effect.map(
    Effect.option(attempt(() => statfs(path))),
    (found) => found._tag === "Some" && !unwatchable.has(found.value.type)
  )

/** The paths of a watch. */
export interface Watched {
  /** Paths that do not exist, not even as a dangling link. */
  readonly missing: ReadonlyArray<NativePath>
  /** An existing path, watched for changes of its content, attributes and name. */
  readonly present: NativePath | undefined
}

/** A name to watch in a directory: for creation and removal, and with `changes` also for changes of the file. */
interface Step {
  readonly directory: NativePath
  readonly name: Buffer
  readonly changes: boolean
}

const root: NativePath = Buffer.from("/")

/**
 * The existing components of a path, and whether the whole path exists. Undefined if a component cannot be examined.
 */
const stepsTo = (path: NativePath) =>
  Effect.gen(function* () {
    const steps: Array<Step> = []
    let directory = root
    for (const name of names(path)) {
      steps.push({ directory, name, changes: false })
      directory = join(directory, name)
      const found = yield* Effect.either(attempt(() => lstat(directory)))
      if (found._tag === "Right") continue
      return found.left.code === "ENOENT" ? { steps, exists: false } : undefined
    }
    return { steps, exists: true }
  })

/** All names to watch; undefined if a missing path exists, the present one does not, or there are too many. */
const plan = ({ missing, present }: Watched) =>
  Effect.gen(function* () {
    if (missing.length === 0 || missing.length > maxPaths) return undefined
    const all: Array<Step> = []
    for (const path of missing) {
      const found = yield* stepsTo(path)
      if (found === undefined || found.exists) return undefined
      all.push(...found.steps)
    }
    if (present === undefined) return all
    // Watch the path itself and, if it is a link, its target.
    const target = yield* Effect.option(attempt(() => realpath(present, { encoding: "buffer" })))
    if (target._tag === "None") return undefined
    for (const path of [present, target.value]) {
      const found = yield* stepsTo(path)
      if (found?.exists !== true) return undefined
      all.push(...found.steps.map((step, i) => ({ ...step, changes: i === found.steps.length - 1 })))
    }
    return all
  })

/** Groups the names by directory. Names become latin1 keys, one character per byte: they need not be UTF-8. */
const byDirectory = (steps: ReadonlyArray<Step>) => {
  const directories = new Map<string, { readonly path: NativePath; readonly names: Map<string, boolean> }>()
  for (const { directory, name, changes } of steps) {
    const key = directory.toString("latin1")
    const { names, path } = directories.get(key) ?? { path: directory, names: new Map<string, boolean>() }
    const text = name.toString("latin1")
    names.set(text, changes || names.get(text) === true)
    directories.set(key, { path, names })
  }
  return directories
}

const closeAll = (watchers: ReadonlyArray<FSWatcher>) => {
  for (const watcher of watchers) watcher.close()
}

/** Watches directories. If one watch fails, closes the others and throws the system's error. */
const watchAll = (directories: ReturnType<typeof byDirectory>, onChange: () => void): ReadonlyArray<FSWatcher> => {
  const watchers: Array<FSWatcher> = []
  try {
    for (const { path, names } of directories.values()) {
      const watcher = watchDirectory(path, { encoding: "buffer" }, (event, name) => {
        const changes = names.get(name?.toString("latin1") ?? "")
        if (changes === true || (changes === false && event === "rename")) onChange()
      })
      watchers.push(watcher)
      watcher.on("error", onChange)
    }
    return watchers
  } catch (error) {
    closeAll(watchers)
    throw error
  }
}

/**
 * Watches until the scope closes. Calls `onChange` at least once if a path or one of its parents is created, removed or
 * changed. Returns false if it cannot watch: the paths are not as `Watched` says, there are more than 64 of them or
 * more than 64 directories, inotify does not work on the file system, or no inotify watch is left. The caller then has
 * to poll.
 */
export const watch = (watched: Watched, onChange: () => void): Effect.Effect<boolean, never, Scope.Scope> =>
  Effect.gen(function* () {
    const steps = yield* plan(watched)
    if (steps === undefined) return false
    const directories = byDirectory(steps)
    if (directories.size > maxDirectories) return false
    for (const { path } of directories.values()) if (!(yield* isWatchable(path))) return false
    // acquireRelease: if the scope is closed already, it closes the watchers at once.
    const started = yield* Effect.option(
      Effect.acquireRelease(
        Effect.try(() => watchAll(directories, onChange)),
        (watchers) => Effect.sync(() => closeAll(watchers))
      )
    )
    if (started._tag === "None") return false
    // Check again for changes before the watchers were in place.
    return (yield* plan(watched)) !== undefined
  })
