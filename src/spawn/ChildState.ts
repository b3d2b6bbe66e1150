/**
 * The state of children, as one version of the server hands it to another. Members that a version does not know are
 * ignored, and those that it adds have a default.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** An index of a section of bytes. */
const Section = Schema.Number

/** A descriptor, under its number in the image. Null: it is closed. */
const Descriptor = Schema.NullOr(Schema.Number)

const flag = Schema.optionalWith(Schema.Boolean, { default: () => false })

/** A member that is an empty list by default. */
const list = <A, I>(item: Schema.Schema<A, I>) => Schema.optionalWith(Schema.Array(item), { default: () => [] })

const IdentityState = Schema.Struct({ pid: Schema.Number, startTime: Schema.Number })

/** A tree of processes. */
export const TreeState = Schema.Struct({
  ...IdentityState.fields,
  /** Known members that have left the session of the leader. */
  strays: list(IdentityState),
  /** The name of its cgroup, if it has one. */
  cgroup: Schema.optional(Schema.String),
  /** Whether the leader was reaped. */
  reaped: Schema.Boolean,
  /** Whether members may have survived the leader. */
  remains: Schema.Boolean,
  /** Whether a kill was due in the turn of the event loop in which it was frozen. */
  doomed: flag
})
export type TreeState = typeof TreeState.Type

/** How a leader ended. */
export const ExitStatusState = Schema.Union(
  Schema.TaggedStruct("Exited", { code: Schema.Number }),
  Schema.TaggedStruct("Signaled", { number: Schema.Number, signal: Schema.String }),
  Schema.TaggedStruct("Lost", { reason: Schema.String })
)

/** The restrictions of a confined program. */
export const ConfinementState = Schema.Struct({
  mounts: Schema.optional(
    Schema.Array(
      Schema.Union(
        Schema.TaggedStruct("Bind", { path: Schema.String, writable: Schema.Boolean }),
        Schema.TaggedStruct("Hide", {
          path: Schema.String,
          kind: Schema.Literal("directory", "file"),
          traversable: Schema.Boolean
        }),
        Schema.TaggedStruct("Link", { path: Schema.String, target: Schema.String })
      )
    )
  ),
  placeholders: Schema.Array(Schema.String),
  isolated: Schema.Boolean
})
export type ConfinementState = typeof ConfinementState.Type

/** The namespaces of a leader, and what is known of its end. */
export const NamespaceState = Schema.Struct({
  /** The processes in it; absent if they had ended when they were looked for. */
  init: Schema.optional(IdentityState),
  program: Schema.optional(IdentityState),
  /** The pipe on which `init` reports; and the beginning of a line. */
  reports: Descriptor,
  rest: Schema.String,
  ended: Schema.optional(ExitStatusState),
  /** The most resident memory of the program, as `init` has reported it. */
  maxRssBytes: Schema.optional(Schema.Number),
  killed: Schema.Boolean,
  confinement: Schema.optional(ConfinementState)
})
export type NamespaceState = typeof NamespaceState.Type

/** A leader. */
export const LeaderState = Schema.Struct({
  /** The pid that clients are told. */
  pid: Schema.Number,
  tree: TreeState,
  /** Whether its end was reported. */
  reported: Schema.Boolean,
  namespace: Schema.optional(NamespaceState)
})
export type LeaderState = typeof LeaderState.Type

const common = {
  leader: LeaderState,
  /** Input that was not passed to the kernel, in order. */
  unsent: list(Section),
  /** Whether its output was abandoned. */
  abandoned: flag
}

/** A child on pipes. */
export const PipeState = Schema.TaggedStruct("Pipe", {
  ...common,
  stdin: Descriptor,
  stdout: Descriptor,
  stderr: Descriptor,
  /** Whether stdin ends after the unsent input. */
  ending: flag,
  /** The pipes that were enlarged. */
  large: list(Schema.Literal("stdout", "stderr")),
  confined: flag
})
export type PipeState = typeof PipeState.Type

/** A child on a terminal. */
export const TerminalState = Schema.TaggedStruct("Pty", {
  ...common,
  /** Null: the output has ended. */
  master: Descriptor,
  slave: Descriptor,
  atLineStart: Schema.Boolean
})
export type TerminalState = typeof TerminalState.Type

/** A child. */
export const ChildState = Schema.Union(PipeState, TerminalState)
export type ChildState = typeof ChildState.Type

/** The guard, and what it was told of. */
export const GuardState = Schema.Struct({
  /** The process, the socket, and the messages that did not fit into it; absent while none runs. */
  running: Schema.optional(
    Schema.Struct({ pid: Schema.Number, socket: Schema.Number, unread: Schema.Array(Schema.String) })
  ),
  leaders: Schema.Array(IdentityState),
  folders: Schema.Array(Schema.String)
})
export type GuardState = typeof GuardState.Type

/** The folder of the server's cgroups. */
export const CgroupsState = Schema.Struct({
  folder: Schema.String,
  /** The descriptor whose lock keeps the folder. */
  lock: Schema.Number,
  /** How many cgroups were made in it. */
  count: Schema.Number,
  /** The controllers that are enabled in it. */
  controllers: Schema.Array(Schema.String)
})
export type CgroupsState = typeof CgroupsState.Type

/** A placeholder, and the descriptor whose lock keeps it. */
export const PlaceholderState = Schema.Struct({ path: Schema.String, fd: Schema.Number })
export type PlaceholderState = typeof PlaceholderState.Type

/** What the children of a server have in common. */
export const SpawnerState = Schema.Struct({
  guard: Schema.optional(GuardState),
  cgroups: Schema.optional(CgroupsState),
  placeholders: list(PlaceholderState)
})
export type SpawnerState = typeof SpawnerState.Type
