/**
 * The state of processes, as one version of the server hands it to another. Members that a version does not know are
 * ignored, and those that it adds have a default.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Restart } from "../protocol/ExecApi.js"
import { ProcessId } from "../protocol/Ids.js"
import { ChildState, ConfinementState, ExitStatusState } from "../spawn/ChildState.js"

/** An index of a section of bytes. */
const Section = Schema.Number

const flag = Schema.optionalWith(Schema.Boolean, { default: () => false })
const count = Schema.optionalWith(Schema.Number, { default: () => 0 })

const list = <A, I>(item: Schema.Schema<A, I>) => Schema.optionalWith(Schema.Array(item), { default: () => [] })

/** A ring of output. */
export const RingState = Schema.Struct({
  /** Absent if it is empty. */
  content: Schema.optional(
    Schema.Struct({
      bytes: Section,
      /** The length of that section. */
      capacity: Schema.Number,
      head: Schema.Number,
      size: Schema.Number,
      /** The numbers (doubles), lengths (32 bits) and streams (8 bits) of chunks, in rings of their own. */
      seqs: Section,
      lengths: Section,
      kinds: Section,
      first: Schema.Number,
      count: Schema.Number
    })
  ),
  /** Dropped bytes of stdout, stderr and the terminal. */
  dropped: list(Schema.Number),
  /** Null if nothing was dropped. */
  firstDroppedSeq: Schema.NullOr(Schema.Number),
  lastDroppedSeq: Schema.Number,
  lastSeq: Schema.Number
})
export type RingState = typeof RingState.Type

/** The retained output of a process. */
export const OutputState = Schema.Struct({
  retain: Schema.Literal("tail", "head-tail"),
  rings: Schema.Array(RingState),
  /** Whether the beginning does not grow any more. */
  isHeadFull: flag,
  released: flag,
  sealed: flag
})
export type OutputState = typeof OutputState.Type

/** Queued input, besides what was passed to the child. */
export const StdinState = Schema.Struct({
  state: Schema.Literal("open", "ending", "closed"),
  /** Writes that wait for room. */
  waiting: list(Schema.Struct({ bytes: Section, writeId: Schema.optional(Schema.String) }))
})
export type StdinState = typeof StdinState.Type

const size = { rows: Schema.Number, cols: Schema.Number }

/** The sizes of a terminal. */
export const MarksState = Schema.Struct({
  first: Schema.Struct(size),
  forgotten: Schema.Number,
  marks: Schema.Array(Schema.Struct({ ...size, seq: Schema.Number, by: Schema.NullOr(Schema.Number) }))
})
export type MarksState = typeof MarksState.Type

/** The decisions about restarts so far. */
export const PolicyState = Schema.Struct({
  /** How long ago the counted restarts were, in milliseconds. */
  agesMs: list(Schema.Number),
  /** The number of delays of this series. */
  delays: count,
  /** What is left of the delay in progress, in milliseconds. */
  leftMs: Schema.optional(Schema.Number)
})
export type PolicyState = typeof PolicyState.Type

/** The limits of a child; their units are those of `ChildLimits`. */
const LimitsState = Schema.Struct({
  memoryBytes: Schema.optional(Schema.Number),
  cpus: Schema.optional(Schema.Number),
  pids: Schema.optional(Schema.Number),
  openFiles: Schema.optional(Schema.Number),
  fileSizeBytes: Schema.optional(Schema.Number),
  coreBytes: Schema.optional(Schema.Number),
  cpuSeconds: Schema.optional(Schema.Number),
  addressSpaceBytes: Schema.optional(Schema.Number),
  nice: Schema.optional(Schema.Number)
})

/** What is started again. */
const SpecState = Schema.Struct({
  argv: Schema.Array(Schema.String),
  arg0: Schema.optional(Schema.String),
  cwd: Schema.String,
  env: Schema.Record({ key: Schema.String, value: Schema.String }),
  io: Schema.Union(Schema.TaggedStruct("Pty", size), Schema.TaggedStruct("Pipe", { stdin: Schema.Boolean })),
  confinement: Schema.optional(ConfinementState),
  limits: Schema.optional(LimitsState)
})

/** What a process has used. */
const UsageState = Schema.Struct({
  userCpuMs: Schema.Number,
  systemCpuMs: Schema.Number,
  maxRssBytes: Schema.NullOr(Schema.Number),
  majorFaults: Schema.Number,
  readBytes: Schema.Number,
  writeBytes: Schema.Number,
  peakMemoryBytes: Schema.optional(Schema.Number),
  oomKills: Schema.optional(Schema.Number)
})

/** A process, without what its supervisor knows of it. */
export const ProcessState = Schema.Struct({
  description: Schema.Struct({
    processId: ProcessId,
    argv: Schema.Array(Schema.String),
    cwd: Schema.String,
    tty: Schema.Boolean,
    size: Schema.optional(Schema.Struct(size)),
    hasStdin: Schema.Boolean,
    sizePolicy: Schema.optional(Schema.Literal("owner", "driver")),
    startedAtMs: Schema.Number
  }),
  phase: Schema.Literal("Running", "Restarting", "Exited", "Closed"),
  /** Of the phases "Running" and "Restarting". */
  outputEnded: flag,
  /** Of all phases but "Running". */
  status: Schema.optional(ExitStatusState),
  nextSeq: Schema.Number,
  exitSeq: count,
  denied: flag,
  /** Of the children that have ended. */
  usage: Schema.optional(UsageState),
  outOfMemory: flag,
  timedOut: flag,
  failure: Schema.optionalWith(Schema.NullOr(Schema.String), { default: () => null }),
  restarts: count,
  outputBytes: count,
  lastOutputAtMs: Schema.optionalWith(Schema.NullOr(Schema.Number), { default: () => null }),
  size: Schema.optional(Schema.Struct(size)),
  marks: Schema.optional(MarksState),
  expired: flag,
  stdinEnded: flag,
  killed: flag,
  final: flag,
  confined: flag,
  writeIds: list(Schema.String),
  stdin: Schema.optional(StdinState),
  output: OutputState,
  child: ChildState
})
export type ProcessState = typeof ProcessState.Type

/** A process of a supervisor. Times are what was left of them when it was frozen, in milliseconds. */
export const SupervisedState = Schema.Struct({
  process: ProcessState,
  /** Whether requests no longer find it: only members of its tree are left. */
  forgotten: flag,
  /** The memory that it takes from its session. */
  weight: count,
  /** Until it is forgotten, of a closed process. */
  retainedMs: Schema.optional(Schema.Number),
  /** Until its time limit. */
  expiresMs: Schema.optional(Schema.Number),
  /** Until what a graceful termination has left is killed. */
  killsMs: Schema.optional(Schema.Number),
  /** Whether its output is abandoned soon after its exit. */
  abandons: flag,
  restart: Schema.optional(Schema.Struct({ spec: SpecState, options: Restart, state: PolicyState }))
})
export type SupervisedState = typeof SupervisedState.Type

/** The processes of a session, in the order of their starts. */
export const SupervisorState = Schema.Struct({ processes: Schema.Array(SupervisedState) })
export type SupervisorState = typeof SupervisorState.Type
