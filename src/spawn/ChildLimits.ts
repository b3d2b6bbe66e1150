/**
 * The limits of a child: what the system enforces for each process, and what a cgroup enforces for the whole tree.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { getPriority } from "node:os"

/**
 * The limits of a child. Absent: the server's own.
 *
 * @category models
 */
export interface ChildLimits {
  /** Memory of the tree, in bytes, without swap. Beyond it the kernel kills the whole tree. Needs a cgroup. */
  readonly memoryBytes?: number | undefined
  /** Processors that the tree may use, such as 1.5. Needs a cgroup. */
  readonly cpus?: number | undefined
  /** Processes and threads of the tree. Needs a cgroup. */
  readonly pids?: number | undefined
  /** Open descriptors of each process. */
  readonly openFiles?: number | undefined
  /** The size of a file that a process writes, in bytes. */
  readonly fileSizeBytes?: number | undefined
  /** The size of a core dump, in bytes. */
  readonly coreBytes?: number | undefined
  /** CPU time of each process, in seconds. */
  readonly cpuSeconds?: number | undefined
  /** Address space of each process, in bytes. */
  readonly addressSpaceBytes?: number | undefined
  /** The priority, from 0 to 19, the lowest. */
  readonly nice?: number | undefined
}

/** The limits that a cgroup enforces, for the whole tree. */
export const ofCgroup = ["memoryBytes", "cpus", "pids"] as const

/** The limits of each process: the letter of `native/limits.h`, and the line of /proc/self/limits. */
const ofProcess = {
  openFiles: ["n", "Max open files"],
  fileSizeBytes: ["f", "Max file size"],
  coreBytes: ["c", "Max core file size"],
  cpuSeconds: ["t", "Max cpu time"],
  addressSpaceBytes: ["v", "Max address space"]
} as const

const namesOfProcess = Object.keys(ofProcess) as ReadonlyArray<keyof typeof ofProcess>

/** The limits that the child sets itself, as `native/limits.h` reads them; undefined if there are none. */
export const textOf = (limits: ChildLimits | undefined): string | undefined => {
  if (limits === undefined) return undefined
  const words = namesOfProcess.flatMap((name) =>
    limits[name] === undefined ? [] : [`${ofProcess[name][0]}${limits[name]}`]
  )
  if (limits.nice !== undefined) words.push(`N${limits.nice}`)
  return words.length === 0 ? undefined : words.join(" ")
}

/** Whether only a cgroup can enforce them all. */
export const needCgroup = (limits: ChildLimits): boolean => ofCgroup.some((name) => limits[name] !== undefined)

/** The text of /proc/self/limits; empty on other systems. */
const readOwn = (): string => {
  try {
    return readFileSync("/proc/self/limits", "latin1")
  } catch {
    return ""
  }
}

/**
 * Why a child cannot be given the limits that it sets itself: they exceed those of this server, which its children
 * inherit. Undefined if it can.
 */
export const excessOf = (limits: ChildLimits): string | undefined => {
  if (limits.nice !== undefined && limits.nice < getPriority()) {
    return `\`limits.nice\` ${limits.nice} is a higher priority than that of this server, ${getPriority()}`
  }
  const wanted = namesOfProcess.filter((name) => limits[name] !== undefined)
  if (wanted.length === 0) return undefined
  const own = readOwn()
  for (const name of wanted) {
    const [, title] = ofProcess[name]
    const hard = new RegExp(`^${title} +\\S+ +(\\d+)`, "m").exec(own)?.[1]
    if (hard !== undefined && (limits[name] ?? 0) > Number(hard)) {
      return `\`limits.${name}\` ${limits[name]} exceeds the hard limit of this server, ${hard}; raise that before the server starts`
    }
  }
  return undefined
}
