/**
 * Watches paths that lead nowhere, for the moment from which they may lead somewhere.
 *
 * What is watched are the directories on the way, each for the one name that the way goes through: what else happens in
 * them, however much, costs one comparison.
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

/** How many paths one watch may have. */
const maxPaths = 64

/** How many directories it may need: each takes one of the system's watches. */
const maxDirectories = 64

/**
 * File systems whose changes the kernel does not tell, or not all of them: they are made up when they are looked at, or
 * are changed by other machines. By their numbers in statfs(2).
 */
const untold: ReadonlySet<number> = new Set([
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

/** Whether every change in a directory is told. */
const isTold = (path: NativePath) =>
  Effect.map(
    Effect.option(attempt(() => statfs(path))),
    (found) => found._tag === "Some" && !untold.has(found.value.type)
  )

/** What is watched for. */
export interface Watched {
  /** Paths where nothing is, not even a link that leads nowhere. */
  readonly missing: ReadonlyArray<NativePath>
  /** Something that is there, and is watched for changes of its content, its attributes and its name. */
  readonly present: NativePath | undefined
}

/** A name in a directory, and whether it matters that what has it changes, or only that it comes or goes. */
interface Step {
  readonly directory: NativePath
  readonly name: Buffer
  readonly changes: boolean
}

const root: NativePath = Buffer.from("/")

/** The steps of a path as far as there is something; whether that is all of it. Undefined where nothing can be seen. */
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

/** Everything that is to be watched; undefined if a path is not as it should be. */
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
    // The name and, if it is a link, what it leads to.
    const target = yield* Effect.option(attempt(() => realpath(present, { encoding: "buffer" })))
    if (target._tag === "None") return undefined
    for (const path of [present, target.value]) {
      const found = yield* stepsTo(path)
      if (found?.exists !== true) return undefined
      all.push(...found.steps.map((step, i) => ({ ...step, changes: i === found.steps.length - 1 })))
    }
    return all
  })

/** The names that matter in each directory, with whether their changes do. Names are compared a character a byte. */
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

/** Watches directories; throws what the system says, and then watches none. */
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
 * Watches until the scope closes. `onChange` is called at least once when something has come, gone or changed on the
 * way. False if there is nothing to wait for, or too much: the paths are not as they should be, are more than 64 or in
 * more than 64 directories, on a file system that does not tell all changes, or the system has no watches left. Then whoever asked has to look.
 */
export const watch = (watched: Watched, onChange: () => void): Effect.Effect<boolean, never, Scope.Scope> =>
  Effect.gen(function* () {
    const steps = yield* plan(watched)
    if (steps === undefined) return false
    const directories = byDirectory(steps)
    if (directories.size > maxDirectories) return false
    for (const { path } of directories.values()) if (!(yield* isTold(path))) return false
    // In one turn: the scope may be closed by now, and then closes them at once.
    const started = yield* Effect.option(
      Effect.acquireRelease(
        Effect.try(() => watchAll(directories, onChange)),
        (watchers) => Effect.sync(() => closeAll(watchers))
      )
    )
    if (started._tag === "None") return false
    // What happened before the watchers were there, they did not see.
    return (yield* plan(watched)) !== undefined
  })
