/**
 * The interface of spawners: the specification of a child, the child, its reports and its exit status.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import type { OutputStream } from "../protocol/ExecApi.js"
import * as OsError from "../protocol/OsError.js"
import type { Signal } from "../protocol/Signals.js"
import type { ChildLimits } from "./ChildLimits.js"
import type { ChildState, SpawnerState } from "./ChildState.js"
import type { Confinement } from "./Confinement.js"
import type { ExitUsage } from "./ExitUsage.js"

/**
 * Names and values of environment variables.
 *
 * @category models
 */
export type Env = { readonly [name: string]: string }

/**
 * A child's three standard descriptors: one terminal, or pipes with or without a writable stdin.
 *
 * @category models
 */
export type Io =
  | { readonly _tag: "Pty"; readonly rows: number; readonly cols: number }
  | { readonly _tag: "Pipe"; readonly stdin: boolean }

/**
 * The specification of a child. It is complete: nothing is inherited.
 *
 * @category models
 */
export interface ChildSpec {
  readonly argv: ReadonlyArray<string>
  readonly arg0?: string | undefined
  readonly cwd: string
  readonly env: Env
  readonly io: Io
  /** The restrictions of the child; none if absent. Only a spawner that `confines` is given it. */
  readonly confinement?: Confinement | undefined
  /** The limits of the child; those of the server if absent. Only a spawner that accepts them is given any. */
  readonly limits?: ChildLimits | undefined
}

/**
 * The exit status of a leader. `Lost` if the system did not report one; no number is made up.
 *
 * @category models
 */
export type ExitStatus = Data.TaggedEnum<{
  Exited: { readonly code: number }
  Signaled: { readonly number: number; readonly signal: string }
  Lost: { readonly reason: string }
}>
export const ExitStatus = Data.taggedEnum<ExitStatus>()

/**
 * A process by pid and start time (clock ticks since boot), which together are unique. A start time of 0 is unknown.
 *
 * @category models
 */
export interface Identity {
  readonly pid: number
  readonly startTime: number
}

/**
 * The roots of a tree: its leader, and known members that have left its session.
 *
 * @category models
 */
export interface Root extends Identity {
  readonly strays?: ReadonlyArray<Identity>
}

/**
 * The target of a signal: the leader, its process group, or the whole tree.
 *
 * @category models
 */
export type SignalTarget = "leader" | "group" | "tree"

/**
 * The reports of a child. Calls come from the event loop, never from within a call to the child except `listen`.
 *
 * @category models
 */
export interface ChildEvents {
  /** Bytes, in order, at most 64 KiB; the buffer is only valid during the call. */
  readonly onOutput: (stream: OutputStream, bytes: Buffer) => void
  /** The leader was reaped. Called once, with what it has used if that is known. */
  readonly onExit: (status: ExitStatus, usage?: ExitUsage) => void
  /** All output was passed to `onOutput`. Called once, before or after `onExit`. */
  readonly onOutputEnd: () => void
  /** The child closed its end of stdin: nothing more can be written. Called at most once. */
  readonly onStdinClosed: () => void
}

/**
 * A running child.
 *
 * @category models
 */
export interface Child {
  readonly pid: number
  /** The roots of its tree in the process table; absent if it is not in there. */
  readonly root?: Root
  /** Starts the reports; call it once, soon after the spawn. Earlier events are kept until then. */
  readonly listen: (events: ChildEvents) => void
  /** Stops reading output; the child blocks once its pipe is full. */
  readonly pause: () => void
  /** Reads output again. */
  readonly resume: () => void
  /** Queues bytes for stdin. `done` is called when they were handed over, and never if they cannot be. */
  readonly write: (bytes: Buffer, done: () => void) => void
  /** Closes stdin after everything written before. */
  readonly endStdin: () => void
  /** Sets the size of the terminal. */
  readonly resize: (rows: number, cols: number) => void
  /** Sends a signal; a process that is gone is no error. SIGKILL to the tree stops all members before it kills them. */
  readonly signal: (signal: Signal, target: SignalTarget) => void
  /** Whether members of the tree may have survived the leader. Cheap; true when in doubt. */
  readonly hasRemains: () => boolean
  /** The same with certainty, once the leader has exited. Reads the process table. */
  readonly findRemains: () => boolean
  /** Reports the output written so far, then `onOutputEnd`, even if a process still holds the other end. */
  readonly abandonOutput: () => void
  /**
   * Its state, for `Handover.adopt`; it goes on unchanged. Throws a `CannotFreeze` if it cannot be handed over. Absent:
   * no child of its spawner can be.
   */
  readonly freeze?: (writer: ImageWriter) => ChildState
}

/**
 * The child could not be started. The message is the operating system's; `isOfCwd` if it is about the working directory.
 * No resources are left behind.
 *
 * @category errors
 */
export class SpawnError extends Data.TaggedError("SpawnError")<{
  readonly message: string
  readonly isOfCwd?: boolean
}> {}

/**
 * Hands children to the version of the server that replaces this one in the same process. Until `begin`, the new one
 * takes nothing from a descriptor and waits for no process: the old one may have to take over again.
 *
 * @category models
 */
export interface Handover {
  /** The state that the children have in common. Has no effect. */
  readonly freeze: (writer: ImageWriter) => SpawnerState
  /** Restores it. Call it once, before `adopt`. */
  readonly restore: (state: SpawnerState) => void
  /**
   * A child of the other version, which reports from `listen` on. The input that was not sent is not sent: the caller
   * has to write it again. Throws if the state cannot be restored.
   */
  readonly adopt: (state: ChildState, reader: ImageReader) => Child
  /** Ends the processes that nobody has adopted. Call it once, after all calls of `adopt`. */
  readonly begin: () => void
}

/**
 * The shape of a spawner service, which starts children.
 *
 * @category models
 */
export interface Spawns {
  /**
   * Whether it enforces the `confinement` of a child. If false, starts with a restrictive sandbox are refused before
   * they reach the spawner.
   */
  readonly confines: boolean
  /** Why it cannot enforce these limits; undefined if it can. Without this, starts with limits are refused. */
  readonly refusalOf?: ((limits: ChildLimits) => string | undefined) | undefined
  /**
   * Starts a child. Runs synchronously up to the fork, so that requests keep their order. A failure that the system
   * reports late may be asynchronous.
   */
  readonly spawn: (spec: ChildSpec) => Effect.Effect<Child, SpawnError>
  /** Absent: its children cannot be handed over, and a server with any cannot be replaced while it runs. */
  readonly handover?: Handover
}

/**
 * Runs system calls that throw, and turns what they throw into a `SpawnError` with the system's text.
 *
 * @category utilities
 */
export const attempt = <A>(spawn: () => A): Effect.Effect<A, SpawnError> =>
  Effect.try({
    try: spawn,
    catch: (error) =>
      error instanceof SpawnError
        ? error
        : new SpawnError({
            message: OsError.describe(error),
            isOfCwd: error instanceof Error && "isOfCwd" in error && error.isOfCwd === true
          })
  })
