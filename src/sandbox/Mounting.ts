/**
 * Translates a confinement into bubblewrap's arguments and the descriptors they refer to.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { closeSync, openSync, writeSync } from "node:fs"
import { join } from "node:path"
import { SpawnError } from "../spawn/Child.js"
import type { Confinement, Mount } from "../spawn/Confinement.js"
import * as Posix from "../spawn/Posix.js"
import { openExactly } from "./ExactPath.js"
import * as Seccomp from "./Seccomp.js"

/** Arguments, and the descriptors that bubblewrap must inherit, numbered from `firstFd`. The caller closes them. */
export interface Mounting {
  readonly args: ReadonlyArray<string>
  readonly fds: ReadonlyArray<number>
}

/** Collects the descriptors that `build` adds; closes them all if it throws. */
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

/** The mounts of a confinement below a folder. `own` are mounted after its root and before everything in it. */
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
    // Last, because the mounts above may be inside hidden folders.
    ...[...hidden, ...(root === undefined ? [below] : [])].flatMap((path) => ["--remount-ro", path])
  ]
}

/** The path of the `init` program inside the sandbox. */
export const initPath = "/dev/.init"

/** The parts of a namespace's /proc that belong to the whole machine. */
const machineNames = ["sys", "pressure", "fs", "scsi", "acpi", "driver", "mtrr", "sysrq-trigger", "irq", "bus"]

/**
 * Mounts these parts read-only: root can write them even without capabilities. Bubblewrap protects only some of them.
 */
const machine =
  process.getuid?.() === 0 ? machineNames.flatMap((name) => ["--ro-bind-try", `/proc/${name}`, `/proc/${name}`]) : []

/** The mounts for a program that runs in the confinement. */
export const forProgram = ({ mounts, isolated }: Confinement, firstFd: number): Mounting =>
  collect(firstFd, (add) => {
    const devices = ["--dev", "/dev", "--proc", "/proc", ...machine, "--ro-bind", Posix.initProgram(), initPath]
    const files = mounts === undefined ? ["--bind", "/", "/", ...devices] : mount(mounts, "/", devices, add)
    return [...files, ...isolate(isolated, add)]
  })

/** Adds a filter of system calls; bubblewrap reads it from a descriptor. */
const filterArguments = (filter: Buffer, add: (fd: number) => string): ReadonlyArray<string> => {
  const [readEnd, writeEnd] = Posix.pipe()
  // Fits in the pipe's buffer, so it does not block.
  writeSync(writeEnd, filter)
  closeSync(writeEnd)
  return ["--add-seccomp-fd", add(readEnd)]
}

/** The base filter of every sandbox, if the architecture is known, and an isolated network if requested. */
const isolate = (isolated: boolean, add: (fd: number) => string): ReadonlyArray<string> => {
  const base = Seccomp.base()
  const filtered = base === undefined ? [] : filterArguments(base, add)
  if (!isolated) return filtered
  const filter = Seccomp.noForeignSockets()
  if (filter === undefined) {
    throw new SpawnError({ message: `the network cannot be restricted on this CPU architecture (${process.arch})` })
  }
  return [...filtered, "--unshare-net", ...filterArguments(filter, add)]
}

/** The path of the confinement's files in a worker's mount namespace. */
export const viewPath = "/dev/view"

/** The mounts for a file worker: the host's files, for its program and libraries, and the confinement at `viewPath`. */
export const forWorker = ({ mounts = [] }: Confinement, firstFd: number): Mounting =>
  collect(firstFd, (add) => [
    ...["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", viewPath],
    // /proc is read-only: otherwise a request could write to the worker's memory through /proc/self/mem.
    ...mount(mounts, viewPath, ["--proc", `${viewPath}/proc`, "--remount-ro", `${viewPath}/proc`], add),
    ...["--unshare-net", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_CHROOT"]
  ])
