/**
 * Cgroups of version 2, where there is a folder for them: one for each child, made before it starts and removed when
 * its tree is empty. The kernel keeps every descendant in it, daemons included.
 *
 * A server has one folder, `exec-server.PID.N`, for the cgroups of its children, and keeps it locked: an unlocked one
 * belongs to a server that was killed. Its processes are then killed, and it is removed.
 *
 * Controllers are enabled when the first limit needs them: they make each start slower.
 *
 * @since 0.1.0
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  type FSWatcher,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  watch,
  writeFileSync
} from "node:fs"
import { basename, dirname, join, relative } from "node:path"
import * as Context from "effect/Context"
import * as Either from "effect/Either"
import * as OsError from "../protocol/OsError.js"
import { type ChildLimits, ofCgroup } from "./ChildLimits.js"
import type { CgroupUsage } from "./ExitUsage.js"
import * as Posix from "./Posix.js"
import { entryOf } from "./ProcessTree.js"

/**
 * Where the cgroups of children are made: `auto` (in the server's own cgroup, if that is left to it), `none`, or the
 * path of a folder.
 *
 * @category context
 */
export class CgroupParent extends Context.Reference<CgroupParent>()("exec-server/CgroupParent", {
  defaultValue: (): string => "auto"
}) {}

/**
 * The cgroup of a child and its descendants.
 *
 * @category models
 */
export interface Cgroup {
  /** The descriptor of its folder, until `started`. */
  readonly fd: number
  /** Closes the descriptor: the child is in it. */
  readonly started: () => void
  /** Kills all processes in it; false if the kernel cannot do that at once. */
  readonly kill: () => boolean
  /** Its processes, without those in cgroups that they have made. */
  readonly pids: () => ReadonlyArray<number>
  /** What its processes have used, those that have ended included. */
  readonly usage: () => CgroupUsage | undefined
  /** Removes it; false while there are processes in it. */
  readonly remove: () => boolean
  /** Calls back once when it is empty. Returns a function that cancels this. */
  readonly onEmpty: (callback: () => void) => () => void
}

/**
 * The cgroups of a server's children.
 *
 * @category models
 */
export interface Shape {
  /** Why these limits cannot be enforced by a cgroup; undefined if they can, or if they need none. */
  readonly refusal: (limits: ChildLimits) => string | undefined
  /** A cgroup with these limits; undefined if none can be made. Throws system errors if a limit needs one. */
  readonly make: (limits: ChildLimits | undefined) => Cgroup | undefined
  /** Removes what killed servers have left, and kills its processes. */
  readonly sweep: () => void
  /** Kills what is left, and removes the folder of this server. */
  readonly close: () => void
}

/** The server's own cgroup where it shares a delegated one with those of its children. The name is systemd's advice. */
const supervisor = "supervisor"

const prefix = "exec-server."

/** The folders of this process so far: a name is not used twice, as the former one may still be being removed. */
let made = 0

/** How often, and for how long, a folder is removed whose processes are being killed, in milliseconds. */
const retryMs = 50
const maxRetries = 100

/** The period of processor time, in microseconds; that of the kernel. */
const periodUs = 100_000

/** The controller of each limit, its file, and the value that it is given. */
const controls = {
  memoryBytes: { controller: "memory", file: "memory.max", text: (bytes: number) => `${bytes}` },
  cpus: {
    controller: "cpu",
    file: "cpu.max",
    text: (cpus: number) => `${Math.round(cpus * periodUs)} ${periodUs}`
  },
  pids: { controller: "pids", file: "pids.max", text: (pids: number) => `${pids}` }
} as const

const read = (...path: ReadonlyArray<string>): string => {
  try {
    return readFileSync(join(...path), "latin1")
  } catch {
    return ""
  }
}

/** What limits memory without a cgroup. */
const otherwise = "; `limits.addressSpaceBytes` limits the address space of each process without one"

const words = (text: string) => text.split(/\s+/).filter((word) => word !== "")

const pidsIn = (folder: string) => words(read(folder, "cgroup.procs")).map(Number)

/** A number in a file of lines with a name and a number. */
const field = (text: string, name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? 0)

const isWritable = (path: string): boolean => {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Undoes the escapes of /proc/self/mountinfo. */
const unquote = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))

/** The folder of the cgroup of this process; undefined if it is not in sight. */
const ownFolder = (): string | undefined => {
  const path = /^0::(\/.*)$/m.exec(read("/proc/self/cgroup"))?.[1]
  if (path === undefined || path.startsWith("/..")) return undefined
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const [left = "", right = ""] = line.split(" - ")
    if (!right.startsWith("cgroup2 ")) continue
    const [, , , root = "/", mounted = "/"] = left.split(" ").map(unquote)
    const below = relative(root, path)
    if (!below.startsWith("..")) return join(mounted, below)
  }
  return undefined
}

/** The hierarchy's real root has no such file. */
const isRoot = (folder: string) => !existsSync(join(folder, "cgroup.events"))

/** Whether the processes of this cgroup may make others in it. */
const isOurs = (folder: string) =>
  process.geteuid?.() !== 0 || !existsSync("/run/systemd/system") || Posix.isDelegated(folder)

/**
 * The folder to make cgroups in, or why there is none.
 *
 * @category utilities
 */
export const locate = (parent: string): Either.Either<string, string> => {
  if (parent === "none") return Either.left("this server makes none: its setting cgroup is none")
  if (parent !== "auto") {
    if (!existsSync(join(parent, "cgroup.controllers"))) return Either.left(`${parent} is not a folder of cgroup v2`)
    if (!isWritable(join(parent, "cgroup.procs"))) return Either.left(`${parent} is not writable for this server`)
    return Either.right(parent)
  }
  const own = ownFolder()
  if (own === undefined) return Either.left("cgroup v2 is not mounted here, or not that of this server")
  const folder = basename(own) === supervisor && !isRoot(dirname(own)) ? dirname(own) : own
  if (!isWritable(folder) || !isWritable(join(folder, "cgroup.procs"))) {
    return Either.left(`the cgroup ${folder} is not writable for this server; delegate it (systemd: Delegate=yes)`)
  }
  return isOurs(folder)
    ? Either.right(folder)
    : Either.left(`the cgroup ${folder} belongs to systemd; start the server with Delegate=yes`)
}

/** Kills the processes of a cgroup and of those below it. */
const killIn = (folder: string): boolean => {
  try {
    writeFileSync(join(folder, "cgroup.kill"), "1")
    return true
  } catch {
    return false
  }
}

/** The cgroups below one. */
const below = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [join(folder, entry.name)] : []
    )
  } catch {
    return []
  }
}

/** Removes a cgroup and those below it; false if some process is still in one. */
const removeAll = (folder: string): boolean => {
  for (const inner of below(folder)) removeAll(inner)
  try {
    rmdirSync(folder)
    return true
  } catch (error) {
    return OsError.codeOf(error) === "ENOENT"
  }
}

/** Kills everything below a folder without `cgroup.kill`. */
const killEach = (folder: string): void => {
  for (const inner of below(folder)) killEach(inner)
  for (const pid of pidsIn(folder)) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // It has ended.
    }
  }
}

/** Kills everything in a folder and removes it, now or as soon as its processes have ended. */
const destroy = (folder: string, retries = maxRetries): void => {
  if (removeAll(folder)) return
  if (!killIn(folder)) killEach(folder)
  if (removeAll(folder) || retries === 0) return
  setTimeout(() => destroy(folder, retries - 1), retryMs).unref()
}

/** Opens a folder and locks it; undefined if another server has locked or removed it. */
const lockFolder = (folder: string): number | undefined => {
  let fd: number
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return undefined
  }
  // A server that swept between may have removed it.
  if (Posix.lock(fd, "exclusive") && existsSync(folder)) return fd
  closeSync(fd)
  return undefined
}

const sweep = (parent: string) => {
  for (const folder of below(parent)) {
    if (!basename(folder).startsWith(prefix)) continue
    const fd = lockFolder(folder)
    if (fd === undefined) continue
    destroy(folder)
    closeSync(fd)
  }
}

/** A cgroup that was made; `countsMemory` if it has that controller. */
const cgroupAt = (folder: string, fd: number, countsMemory: boolean): Cgroup => {
  let isOpen = true
  const cgroup: Cgroup = {
    fd,
    started: () => {
      if (isOpen) closeSync(fd)
      isOpen = false
    },
    kill: () => killIn(folder),
    pids: () => pidsIn(folder),
    usage: () => {
      const cpu = read(folder, "cpu.stat")
      if (cpu === "") return undefined
      const events = countsMemory ? read(folder, "memory.events") : ""
      const peak = countsMemory ? read(folder, "memory.peak") : ""
      return {
        userCpuMs: Math.round(field(cpu, "user_usec") / 1000),
        systemCpuMs: Math.round(field(cpu, "system_usec") / 1000),
        ...(peak === "" ? {} : { peakMemoryBytes: Number(peak) }),
        ...(events === "" ? {} : { oomKills: field(events, "oom_kill") })
      }
    },
    remove: () => {
      cgroup.started()
      try {
        rmdirSync(folder)
        return true
      } catch (error) {
        // Processes may have made cgroups in it.
        return (
          OsError.codeOf(error) === "ENOENT" ||
          (field(read(folder, "cgroup.events"), "populated") === 0 && removeAll(folder))
        )
      }
    },
    onEmpty: (callback) => {
      let watcher: FSWatcher | undefined
      const stop = () => {
        watcher?.close()
        watcher = undefined
      }
      const look = () => {
        if (watcher === undefined || field(read(folder, "cgroup.events"), "populated") !== 0) return
        stop()
        callback()
      }
      try {
        watcher = watch(join(folder, "cgroup.events"), { persistent: false }, look)
        watcher.on("error", stop)
        setImmediate(look)
      } catch {
        // No watch is left, or the folder is gone: whoever waits looks from time to time as well.
      }
      return stop
    }
  }
  return cgroup
}

/** Moves the processes of this server out of the way: only a cgroup without processes can have controllers. */
const makeRoom = (parent: string): string | undefined => {
  const pids = pidsIn(parent)
  const strangers = pids.filter((pid) => pid !== process.pid && entryOf(pid)?.parent !== process.pid)
  if (strangers.length > 0) {
    return `other processes are in the cgroup ${parent} (${strangers.slice(0, 3).join(", ")}): start the server in one of its own`
  }
  try {
    if (!existsSync(join(parent, supervisor))) mkdirSync(join(parent, supervisor))
    for (const pid of pids) writeFileSync(join(parent, supervisor, "cgroup.procs"), `${pid}`)
    return undefined
  } catch (error) {
    return `the server cannot move itself to ${join(parent, supervisor)}: ${OsError.describe(error)}`
  }
}

/** Enables a controller for the cgroups below a folder; returns why that is not possible. */
const enable = (
  folder: string,
  controller: string,
  room: (folder: string) => string | undefined
): string | undefined => {
  const file = join(folder, "cgroup.subtree_control")
  if (words(read(file)).includes(controller)) return undefined
  if (!words(read(folder, "cgroup.controllers")).includes(controller)) {
    return `the cgroup ${folder} has no controller \`${controller}\``
  }
  try {
    writeFileSync(file, `+${controller}`)
    return undefined
  } catch (error) {
    const why = OsError.codeOf(error) === "EBUSY" ? room(folder) : OsError.describe(error)
    return why === undefined
      ? enable(folder, controller, () => `processes are in the cgroup ${folder}`)
      : `the controller \`${controller}\` cannot be enabled in ${folder}: ${why}`
  }
}

/**
 * The controllers that limits need and a folder does not have.
 *
 * @category utilities
 */
export const missingIn = (folder: string): ReadonlyArray<string> => {
  const there = words(read(folder, "cgroup.controllers"))
  return ofCgroup.map((name) => controls[name].controller).filter((controller) => !there.includes(controller))
}

/**
 * Cgroups in a parent folder. `onMade` is told the path of the server's folder, once, before a child is in it.
 *
 * @category constructors
 */
export const make = (parent: string, onMade: (folder: string) => void): Shape => {
  let located: Either.Either<string, string> | undefined
  let base: { readonly folder: string; readonly lock: number } | undefined
  let count = 0
  /** The controllers that are enabled for the cgroups of children. */
  const enabled = new Set<string>()

  const find = () => {
    if (located === undefined) {
      located = locate(parent)
      if (Either.isRight(located)) sweep(located.right)
    }
    return located
  }

  /** The folder of this server; made when it is first needed. Throws system errors. */
  const baseIn = (folder: string): string => {
    for (let attempt = 0; base === undefined && attempt < 3; attempt++) {
      const path = join(folder, `${prefix}${process.pid}.${++made}`)
      try {
        mkdirSync(path)
      } catch (error) {
        // That of a server in another PID namespace.
        if (OsError.codeOf(error) !== "EEXIST") throw error
        continue
      }
      const lock = lockFolder(path)
      if (lock === undefined) continue
      base = { folder: path, lock }
      onMade(path)
    }
    if (base === undefined) throw Object.assign(new Error("no folder could be made"), { code: "EEXIST" })
    return base.folder
  }

  const refusal: Shape["refusal"] = (limits) => {
    const wanted = ofCgroup.filter((name) => limits[name] !== undefined)
    const [first] = wanted
    if (first === undefined) return undefined
    const because = (name: string, why: string) =>
      `\`limits.${name}\` needs a cgroup, and ${why}${name === "memoryBytes" ? otherwise : ""}`
    const found = find()
    if (Either.isLeft(found)) return because(first, found.left)
    try {
      const own = baseIn(found.right)
      for (const name of wanted) {
        const { controller } = controls[name]
        if (enabled.has(controller)) continue
        const why = enable(found.right, controller, makeRoom) ?? enable(own, controller, () => "processes are in it")
        if (why !== undefined) return because(name, why)
        enabled.add(controller)
      }
      return undefined
    } catch (error) {
      return because(first, `none can be made in ${found.right}: ${OsError.describe(error)}`)
    }
  }

  const limit = (folder: string, limits: ChildLimits) => {
    for (const name of ofCgroup) {
      const value = limits[name]
      if (value !== undefined) writeFileSync(join(folder, controls[name].file), controls[name].text(value))
    }
    if (limits.memoryBytes === undefined) return
    // Otherwise the limit would only move memory to disk, and a tree would lose some of its processes.
    if (existsSync(join(folder, "memory.swap.max"))) writeFileSync(join(folder, "memory.swap.max"), "0")
    writeFileSync(join(folder, "memory.oom.group"), "1")
  }

  const makeOne = (parentFolder: string, limits: ChildLimits | undefined): Cgroup => {
    const folder = join(baseIn(parentFolder), String(++count))
    mkdirSync(folder)
    try {
      if (limits !== undefined) limit(folder, limits)
      const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
      return cgroupAt(folder, fd, enabled.has("memory"))
    } catch (error) {
      removeAll(folder)
      throw error
    }
  }

  return {
    refusal,
    make: (limits) => {
      const found = find()
      if (Either.isLeft(found)) return undefined
      try {
        return makeOne(found.right, limits)
      } catch (error) {
        if (limits !== undefined && ofCgroup.some((name) => limits[name] !== undefined)) throw error
        return undefined
      }
    },
    sweep: () => void find(),
    close: () => {
      if (base === undefined) return
      destroy(base.folder)
      closeSync(base.lock)
      base = undefined
    }
  }
}
