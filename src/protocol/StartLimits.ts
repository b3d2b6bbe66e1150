/**
 * The limits of a process (ours), and what it has used at its end.
 *
 * @since 0.1.0
 */
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { type Check, checked } from "./Bounds.js"
import { Count, clip, integerBetween, maybe, nullOr, optional } from "./Schemas.js"

/** The least and the most of each limit. */
export const ranges = {
  memoryBytes: [1048576, Number.MAX_SAFE_INTEGER],
  cpus: [0.01, 65536],
  pids: [1, 4194304],
  openFiles: [4, 1073741816],
  fileSizeBytes: [0, Number.MAX_SAFE_INTEGER],
  coreBytes: [0, Number.MAX_SAFE_INTEGER],
  cpuSeconds: [1, 4294967295],
  addressSpaceBytes: [1048576, Number.MAX_SAFE_INTEGER],
  nice: [0, 19]
} as const

/**
 * The name of a limit.
 *
 * @category models
 */
export type LimitName = keyof typeof ranges

/** All names of limits. */
export const limitNames = Object.keys(ranges) as ReadonlyArray<LimitName>

const whole = (name: LimitName) => {
  const [least, most] = ranges[name]
  return maybe(integerBetween(least, most, `from ${least} to ${most}`))
}

const [leastCpus, mostCpus] = ranges.cpus

const Cpus = Schema.declare(
  (value: unknown): value is number => typeof value === "number" && value >= leastCpus && value <= mostCpus,
  {
    message: () => `expected a number from ${leastCpus} to ${mostCpus}`,
    jsonSchema: { type: "number", minimum: leastCpus, maximum: mostCpus }
  }
)

const fields = Schema.Struct({
  /** Memory of the process and its descendants, in bytes. Beyond it, the kernel kills all of them. */
  memoryBytes: whole("memoryBytes"),
  /** Processors that they may use together, such as 1.5. */
  cpus: maybe(Cpus),
  /** Processes and threads that they may be. */
  pids: whole("pids"),
  /** Open descriptors of each process. */
  openFiles: whole("openFiles"),
  /** The size of a file that a process writes, in bytes. */
  fileSizeBytes: whole("fileSizeBytes"),
  /** The size of a core dump, in bytes. */
  coreBytes: whole("coreBytes"),
  /** CPU time of each process, in seconds. */
  cpuSeconds: whole("cpuSeconds"),
  /** Address space of each process, in bytes. */
  addressSpaceBytes: whole("addressSpaceBytes"),
  /** The priority, from 0 to 19, the lowest. */
  nice: whole("nice")
})

const unknownLimit: Check = (value, path) => {
  const names: ReadonlyArray<string> = limitNames
  const unknown = isRecord(value) ? Object.keys(value).find((name) => !names.includes(name)) : undefined
  return unknown === undefined
    ? undefined
    : `unknown limit \`${path}.${clip(unknown)}\`; the limits are ${names.join(", ")}`
}

/**
 * The limits of a process (ours). An unknown name is refused: the process would run without that limit.
 *
 * @category schemas
 */
export const StartLimits = checked(fields.annotations({ parseOptions: { onExcessProperty: "error" } }), unknownLimit)
export type StartLimits = typeof StartLimits.Type

/**
 * What a process and the descendants that it has waited for have used (ours); where it has a cgroup, all descendants. A
 * process that was restarted has the sums of its starts, and the largest of their memory.
 *
 * @category schemas
 */
export const ExitUsage = Schema.Struct({
  /** CPU time in user mode, in milliseconds. */
  userCpuMs: Count,
  /** CPU time in kernel mode, in milliseconds. */
  systemCpuMs: Count,
  /** The most resident memory of one process, in bytes; null if it is not known. */
  maxRssBytes: nullOr(Count),
  /** Page faults that read storage. */
  majorFaults: Count,
  /** Bytes read from storage. */
  readBytes: Count,
  /** Bytes written to storage. */
  writeBytes: Count,
  /** The most memory of all descendants together, in bytes; only where a cgroup counts it. */
  peakMemoryBytes: optional(Count),
  /** How many of them the kernel has killed for lack of memory; only where a cgroup counts it. */
  oomKills: optional(Count)
})
export type ExitUsage = typeof ExitUsage.Type
