/**
 * A confinement in the terms of bubblewrap: its arguments, and the descriptors they name.
 *
 * @since 0.1.0
 */
import { closeSync, constants, openSync, readlinkSync, writeSync } from "node:fs"
import { join } from "node:path"
import { SpawnError } from "../spawn/Child.js"
import type { Confinement, Mount } from "../spawn/Confinement.js"
import * as Posix from "../spawn/Posix.js"
import * as Seccomp from "./Seccomp.js"

/** Linux: a descriptor that names a place and reads nothing. Not among Node's constants. */
const openPath = 0o10000000

/** Arguments, and the descriptors that the child has to get from a number on. They are the caller's to close. */
export interface Mounting {
  readonly args: ReadonlyArray<string>
  readonly fds: ReadonlyArray<number>
}

/** Collects descriptors, and closes them all if one cannot be had. */
const collect = (firstFd: number, build: (add: (fd: number) => string) => ReadonlyArray<string>): Mounting => {
  const fds: Array<number> = []
  try {
    const args = build((fd) => String(firstFd + fds.push(fd) - 1))
    return { args, fds }
  } catch (error) {
    for (const fd of fds) closeSync(fd)
    throw error
  }
}

/** Opens what really is at a path; it was looked at before, and may have been exchanged since. */
const openExactly = (path: string): number => {
  const fd = openSync(path, openPath | constants.O_NOFOLLOW)
  if (readlinkSync(`/proc/self/fd/${fd}`) === path) return fd
  closeSync(fd)
  throw new SpawnError({ message: `${path} was exchanged for something else while the sandbox was made` })
}

const mountArguments = (mount: Mount, at: string, add: (fd: number) => string): ReadonlyArray<string> => {
  switch (mount._tag) {
    case "Bind":
      return [mount.writable ? "--bind-fd" : "--ro-bind-fd", add(openExactly(mount.path)), at]
    case "Link":
      return ["--symlink", mount.target, at]
    case "Hide":
      if (mount.kind === "file") return ["--perms", "0000", "--ro-bind-data", add(openSync("/dev/null", "r")), at]
      return ["--perms", mount.traversable ? "0555" : "0000", "--tmpfs", at]
  }
}

/** Mounts below a folder; `own` are made after the root, before all that lies in it. */
const mount = (
  mounts: ReadonlyArray<Mount>,
  below: string,
  own: ReadonlyArray<string>,
  add: (fd: number) => string
): ReadonlyArray<string> => {
  const at = (path: string) => (path === "/" ? below : join(below, path))
  const root = mounts.find(({ path }) => path === "/")
  const hidden = mounts.flatMap((one) => (one._tag === "Hide" && one.kind === "directory" ? [at(one.path)] : []))
  return [
    ...(root === undefined ? [] : mountArguments(root, below, add)),
    ...own,
    ...mounts.flatMap((one) => (one === root ? [] : mountArguments(one, at(one.path), add))),
    // Only now, for what is seen in a hidden folder was put into it.
    ...[...hidden, ...(root === undefined ? [below] : [])].flatMap((path) => ["--remount-ro", path])
  ]
}

/** Where the namespace's first process lies within. */
export const initPath = "/dev/.init"

/** What a namespace's own /proc shows of the machine. */
const machineNames = ["sys", "pressure", "fs", "scsi", "acpi", "driver", "mtrr", "sysrq-trigger", "irq", "bus"]

/** Root may write there without any privilege. Bubblewrap covers some of it, but asks only whether folders are writable. */
const machine =
  process.getuid?.() === 0 ? machineNames.flatMap((name) => ["--ro-bind-try", `/proc/${name}`, `/proc/${name}`]) : []

/** For a program that runs in the confinement. */
export const forProgram = ({ mounts, isolated }: Confinement, firstFd: number): Mounting =>
  collect(firstFd, (add) => {
    const devices = ["--dev", "/dev", "--proc", "/proc", ...machine, "--ro-bind", Posix.initProgram(), initPath]
    const files = mounts === undefined ? ["--bind", "/", "/", ...devices] : mount(mounts, "/", devices, add)
    return [...files, ...(isolated ? isolate(add) : [])]
  })

const isolate = (add: (fd: number) => string): ReadonlyArray<string> => {
  const filter = Seccomp.noForeignSockets()
  if (filter === undefined) {
    throw new SpawnError({ message: `the network cannot be restricted on this kind of processor (${process.arch})` })
  }
  const [readEnd, writeEnd] = Posix.pipe()
  // Less than any pipe holds.
  writeSync(writeEnd, filter)
  closeSync(writeEnd)
  return ["--unshare-net", "--seccomp", add(readEnd)]
}

/** Where a worker finds the files of its confinement. */
export const viewPath = "/dev/view"

/** For a worker that needs its own program and libraries until it makes the confinement its root. */
export const forWorker = ({ mounts = [] }: Confinement, firstFd: number): Mounting =>
  collect(firstFd, (add) => [
    ...["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", viewPath],
    // Read-only, or whoever may write to files could write to the worker's own memory.
    ...mount(mounts, viewPath, ["--proc", `${viewPath}/proc`, "--remount-ro", `${viewPath}/proc`], add),
    ...["--unshare-net", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_CHROOT"]
  ])
