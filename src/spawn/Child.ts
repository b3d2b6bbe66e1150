/**
 * What a spawner is asked for, and what it gives: a child, its reports, and how it ended.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { OutputStream } from "../protocol/ExecApi.js"
import * as OsError from "../protocol/OsError.js"
import type { Signal } from "../protocol/Signals.js"
import type { Confinement } from "./Confinement.js"

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
 * What to run: complete, nothing is inherited.
 *
 * @category models
 */
export interface ChildSpec {
  readonly argv: ReadonlyArray<string>
  readonly arg0?: string | undefined
  readonly cwd: string
  readonly env: Env
  readonly io: Io
  /** What it may see and reach; everything, without it. A spawner is given it only where it `confines`. */
  readonly confinement?: Confinement | undefined
}

/**
 * How a leader ended. `Lost` when the system could not tell: never a made-up number.
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
 * Whom a signal reaches: the leader, its process group, or every descendant.
 *
 * @category models
 */
export type SignalTarget = "leader" | "group" | "tree"

/**
 * What a child reports. Every call comes from the event loop, never from within a call to the child but `listen`.
 *
 * @category models
 */
export interface ChildEvents {
  /** Bytes, in order, at most 64 KiB; the buffer is only valid during the call. */
  readonly onOutput: (stream: OutputStream, bytes: Buffer) => void
  /** The leader was reaped. Once. */
  readonly onExit: (status: ExitStatus) => void
  /** Every byte of output was given to `onOutput`. Once; before or after `onExit`. */
  readonly onOutputEnd: () => void
  /** Nothing more can be written: the child closed its end. At most once. */
  readonly onStdinClosed: () => void
}

/**
 * A running child.
 *
 * @category models
 */
export interface Child {
  readonly pid: number
  /** Starts the reports; called once, soon after the spawn. Nothing is lost before. */
  readonly listen: (events: ChildEvents) => void
  /** Stops reading output; the child blocks once its pipe is full. */
  readonly pause: () => void
  /** Reads output again. */
  readonly resume: () => void
  /** Queues bytes for stdin; `done` follows when they were handed over, and not at all if they cannot be. */
  readonly write: (bytes: Buffer, done: () => void) => void
  /** Closes stdin after everything written before. */
  readonly endStdin: () => void
  /** Sets the size of the terminal. */
  readonly resize: (rows: number, cols: number) => void
  /** Sends a signal; nobody left to get it is no error. SIGKILL to the tree leaves no descendant time to escape. */
  readonly signal: (signal: Signal, target: SignalTarget) => void
  /** Whether something of the tree may live on after the leader's exit; cheap, and true when in doubt. */
  readonly hasRemains: () => boolean
  /** The same for certain, once the leader has exited; takes a reading of the process table. */
  readonly findRemains: () => boolean
  /** Tells what was written so far and then `onOutputEnd`, soon, whoever still holds the other end. */
  readonly abandonOutput: () => void
}

/**
 * The child could not be started; the message is the operating system's. Nothing is left behind.
 *
 * @category errors
 */
export class SpawnError extends Data.TaggedError("SpawnError")<{ readonly message: string }> {}

/**
 * Starts children: the shape of every spawner service.
 *
 * @category models
 */
export interface Spawns {
  /**
   * Whether it keeps the `confinement` of a child or fails. Where it is false, starts with a sandbox that restricts
   * something are refused and never reach the spawner.
   */
  readonly confines: boolean
  /**
   * Starts a child. The part up to the fork runs synchronously, so that requests keep their order; a failure that the
   * system reports late may come asynchronously.
   */
  readonly spawn: (spec: ChildSpec) => Effect.Effect<Child, SpawnError>
}

/**
 * Runs system calls that throw; what they throw becomes a `SpawnError` with the system's text.
 *
 * @category utilities
 */
export const attempt = <A>(spawn: () => A): Effect.Effect<A, SpawnError> =>
  Effect.try({
    try: spawn,
    catch: (error) => (error instanceof SpawnError ? error : new SpawnError({ message: OsError.describe(error) }))
  })
