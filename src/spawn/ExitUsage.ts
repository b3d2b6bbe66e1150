/**
 * What a child has used until its end.
 *
 * @since 0.1.0
 */

/**
 * What a child and the descendants that it has waited for have used; with a cgroup, all of its tree.
 *
 * @category models
 */
export interface ExitUsage {
  /** CPU time in user and in kernel mode, in milliseconds. */
  readonly userCpuMs: number
  readonly systemCpuMs: number
  /** The most resident memory of one process, in bytes; null if it is not known. */
  readonly maxRssBytes: number | null
  /** Page faults that read storage. */
  readonly majorFaults: number
  /** Bytes read from and written to storage. */
  readonly readBytes: number
  readonly writeBytes: number
  /** The most memory of the whole tree, in bytes; only with a cgroup that counts it. */
  readonly peakMemoryBytes?: number | undefined
  /** How many processes the kernel has killed because the memory of the cgroup was used up; only with such a cgroup. */
  readonly oomKills?: number | undefined
}

/** The size of the blocks in which the system counts I/O. */
const blockBytes = 512

/** macOS counts memory in bytes. */
const rssUnit = process.platform === "darwin" ? 1 : 1024

/** The usage as `native/posix.c` reports it; undefined if the system did not report any. */
export const ofReport = (
  userUs: number,
  systemUs: number,
  maxRss: number,
  majorFaults: number,
  blocksRead: number,
  blocksWritten: number
): ExitUsage | undefined =>
  userUs < 0
    ? undefined
    : {
        userCpuMs: Math.round(userUs / 1000),
        systemCpuMs: Math.round(systemUs / 1000),
        maxRssBytes: maxRss === 0 ? null : maxRss * rssUnit,
        majorFaults,
        readBytes: blocksRead * blockBytes,
        writeBytes: blocksWritten * blockBytes
      }

const larger = (a: number | null | undefined, b: number | null | undefined) =>
  a == null ? b : b == null ? a : Math.max(a, b)

/** The usage of a process that was restarted: sums, and the largest of memory. */
export const add = (earlier: ExitUsage | undefined, later: ExitUsage | undefined): ExitUsage | undefined => {
  if (earlier === undefined || later === undefined) return later ?? earlier
  const peakMemoryBytes = larger(earlier.peakMemoryBytes, later.peakMemoryBytes)
  const { oomKills } = later
  return {
    userCpuMs: earlier.userCpuMs + later.userCpuMs,
    systemCpuMs: earlier.systemCpuMs + later.systemCpuMs,
    maxRssBytes: larger(earlier.maxRssBytes, later.maxRssBytes) ?? null,
    majorFaults: earlier.majorFaults + later.majorFaults,
    readBytes: earlier.readBytes + later.readBytes,
    writeBytes: earlier.writeBytes + later.writeBytes,
    ...(peakMemoryBytes == null ? {} : { peakMemoryBytes }),
    ...(oomKills === undefined ? {} : { oomKills: oomKills + (earlier.oomKills ?? 0) })
  }
}

/** What a cgroup has counted. */
export interface CgroupUsage {
  readonly userCpuMs: number
  readonly systemCpuMs: number
  readonly peakMemoryBytes?: number | undefined
  readonly oomKills?: number | undefined
}

/** Adds what the cgroup knows: the CPU time of descendants that nobody has waited for, memory, and kills. */
export const withCgroup = (usage: ExitUsage | undefined, counted: CgroupUsage | undefined): ExitUsage | undefined => {
  if (usage === undefined || counted === undefined) return usage
  const { peakMemoryBytes, oomKills } = counted
  return {
    ...usage,
    userCpuMs: Math.max(usage.userCpuMs, counted.userCpuMs),
    systemCpuMs: Math.max(usage.systemCpuMs, counted.systemCpuMs),
    ...(peakMemoryBytes === undefined ? {} : { peakMemoryBytes }),
    ...(oomKills === undefined ? {} : { oomKills })
  }
}
