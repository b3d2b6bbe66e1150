/**
 * Every request of the protocol: its parameters, its result and its failures. Server, client, documentation and tests
 * derive from this group.
 *
 * Where a rule comes from is said as in the original's history: v0 (March 2026), May (2026), now (0.169), or ours.
 *
 * @since 0.1.0
 */
import * as Rpc from "@effect/rpc/Rpc"
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import type * as Types from "effect/Types"
import { DiscoveryApi } from "./DiscoveryApi.js"
import { Failure } from "./Failure.js"
import { FileSystemApi } from "./FileSystemApi.js"
import { HttpApi } from "./HttpApi.js"
import { ProcessId, SessionId } from "./Ids.js"
import { AbsolutePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import { Bytes, Cells, Count, Flag, Integer, maybe, oneOf, Text, TextList, TextMap } from "./Schemas.js"
import { SignalName } from "./Signals.js"
import { policyFields, startFields } from "./Unenforced.js"

/** Where output came from: `pty` carries both streams of a terminal. */
export const OutputStream = oneOf("stdout", "stderr", "pty")
export type OutputStream = typeof OutputStream.Type

/** What a client may ask for, and what the server granted (ours). */
export const Capabilities = Schema.Struct({
  /** `process/started` and `process/failed` notifications. */
  lifecycle: Schema.optional(Flag),
  /** Output in binary frames instead of `process/output`; see `BinaryFrame`. On WebSocket only. */
  binaryOutput: Schema.optional(Flag)
})
export type Capabilities = typeof Capabilities.Type

/** The machine the server runs on (now). Directories are `file:` URIs. */
export const EnvironmentInfo = Schema.Struct({
  shell: Schema.Struct({ name: Text, path: Text }),
  executorVersion: Text,
  cwd: Schema.NullOr(Text),
  userHomeDir: Schema.NullOr(Text),
  platformOs: Text,
  prependPathDirs: TextList,
  temporaryDirectories: TextList,
  tempDir: Text,
  capabilities: Schema.Record({ key: Schema.String, value: Flag })
})
export type EnvironmentInfo = typeof EnvironmentInfo.Type

/** How a child's environment is made from the server's own (May); see `EnvPolicy` for the steps. */
export const EnvPolicy = Schema.Struct({
  inherit: oneOf("core", "all", "none"),
  ignoreDefaultExcludes: Flag,
  exclude: TextList,
  set: TextMap,
  includeOnly: TextList
})
export type EnvPolicy = typeof EnvPolicy.Type

/**
 * What happens when a process ends by itself (ours): `onFailure` means after a signal or a status other than 0. Once
 * there were `maxRestarts` within `withinMs`, the next end is final. Before each start `backoffMs` pass, twice as many
 * each time, up to `maxBackoffMs`.
 */
export const Restart = Schema.Struct({
  policy: oneOf("never", "onFailure", "always"),
  maxRestarts: Count,
  withinMs: Count,
  backoffMs: Count,
  maxBackoffMs: Count
})
export type Restart = typeof Restart.Type

const Uuid = Schema.UUID.annotations({ message: () => ({ message: "expected a UUID", override: true }) })

/** `process/start`: the start of a process. */
export const StartParams = Schema.Struct({
  processId: ProcessId,
  /** Program and arguments; a program without a slash is looked up in the child's own `PATH`. */
  argv: TextList,
  cwd: AbsolutePath,
  /** The child's whole environment; with `envPolicy`, what is laid over the inherited one. */
  env: TextMap,
  tty: Flag,
  /** The child's `argv[0]`, where it differs from the program. */
  arg0: maybe(Text),
  /** Without a terminal: keep stdin as a writable pipe; otherwise it is /dev/null. Not null (now). */
  pipeStdin: Schema.optionalWith(Flag, { default: () => false }),
  envPolicy: maybe(EnvPolicy),
  /** What it may see and reach; refused where that cannot be enforced, never ignored. */
  sandbox: maybe(Sandbox),
  ...policyFields,
  ...startFields,
  /** What the client knows it by; nothing is done with it (now). */
  metadata: maybe(Schema.Struct({ threadId: maybe(Uuid), toolCallId: maybe(Text) })),
  /** The size of the terminal (ours); 24 rows of 80 columns without it. */
  size: maybe(Schema.Struct({ rows: Cells, cols: Cells })),
  /** Ends the whole tree when it runs out (ours), in milliseconds. */
  timeoutMs: maybe(Count),
  /** Starts it again when it ends by itself (ours): under the same id, with the same `seq` counter. */
  restart: maybe(Restart),
  /** An already resolved request, to be spawned exactly as it is (the design notes of v0). */
  prepared: maybe(Flag)
})
export type StartParams = typeof StartParams.Type

/** How `process/terminate` goes about it (ours): SIGKILL at once, or SIGTERM and, `timeoutMs` later, SIGKILL. */
export const TerminateMode = Schema.Union(
  Schema.Struct({ type: oneOf("force") }),
  Schema.Struct({ type: oneOf("graceful"), timeoutMs: Count })
).annotations({
  message: () => ({
    message: 'expected `{"type":"force"}` or `{"type":"graceful","timeoutMs":<milliseconds>}`',
    override: true
  })
})
export type TerminateMode = typeof TerminateMode.Type

/** A member of what a server tells that is ours: clients take its absence, as from the original, for this value. */
const ours = <A, I>(schema: Schema.Schema<A, I>, absent: () => Types.NoInfer<A>) =>
  Schema.optionalWith(schema, { default: absent })

/** Status of the leader: `null` while it runs. A signal reads 128 + its number, and has its name beside it (ours). */
export const exitFields = {
  exitCode: Schema.NullOr(Integer),
  signal: ours(Schema.NullOr(Text), () => null)
}

/** One retained or live piece of output: raw bytes, at most 64 KiB. */
export const OutputChunk = Schema.Struct({ seq: Count, stream: OutputStream, chunk: Bytes })
export type OutputChunk = typeof OutputChunk.Type

/** `process/read`: retained output after a cursor. */
export const ReadResult = Schema.Struct({
  chunks: Schema.Array(OutputChunk),
  /** Go on with `afterSeq = nextSeq - 1`. */
  nextSeq: Count,
  exited: Flag,
  ...exitFields,
  closed: Flag,
  failure: Schema.NullOr(Text),
  sandboxDenied: Flag,
  /** Whether something after `afterSeq` was dropped (ours). */
  truncated: ours(Flag, () => false),
  /** How many bytes of output were dropped so far (ours). */
  droppedBytes: ours(Count, () => 0)
})
export type ReadResult = typeof ReadResult.Type

/** `process/write`: "accepted" means queued for the child, in order; not that the child has read it. */
export const WriteResult = Schema.Struct({
  /** The same as a flag (v0); servers of later generations leave it out. */
  accepted: Schema.optional(Flag),
  status: oneOf("accepted", "unknownProcess", "starting", "stdinClosed")
})
export type WriteResult = typeof WriteResult.Type

/** `process/wait`: the process as it stands. */
export const WaitResult = Schema.Struct({ exited: Flag, ...exitFields, closed: Flag })
export type WaitResult = typeof WaitResult.Type

/** `process/snapshot`: all retained output at once; a terminal's is in `terminal` alone. */
export const SnapshotResult = Schema.Struct({
  stdout: Bytes,
  stderr: Bytes,
  terminal: Bytes,
  truncated: Flag,
  droppedBytes: Count,
  ...exitFields,
  running: Flag
})
export type SnapshotResult = typeof SnapshotResult.Type

/** One line of `process/list`. */
export const ProcessInfo = Schema.Struct({
  processId: ProcessId,
  pid: Schema.NullOr(Integer),
  argv: TextList,
  tty: Flag,
  running: Flag,
  ...exitFields,
  startedAtMs: Integer
})
export type ProcessInfo = typeof ProcessInfo.Type

const Empty = Schema.Struct({})
const ofProcess = { processId: ProcessId }

/** All requests. */
export class ExecApi extends RpcGroup.make(
  /** The first request of a connection, once. With `resumeSessionId`, takes a detached session up again. */
  Rpc.make("initialize", {
    payload: Schema.Struct({
      clientName: Text,
      resumeSessionId: Schema.optional(Schema.NullOr(Text)),
      capabilities: Schema.optional(Schema.NullOr(Capabilities))
    }),
    success: Schema.Struct({
      protocolVersion: ours(Schema.Literal("exec-server.v0"), () => "exec-server.v0" as const),
      sessionId: SessionId,
      environmentInfo: EnvironmentInfo,
      capabilities: ours(Capabilities, () => ({}))
    }),
    error: Failure
  }),
  /** Describes the machine the server runs on (now). */
  Rpc.make("environment/info", { payload: Empty, success: EnvironmentInfo, error: Failure }),
  /** Says that the server is ready (now). */
  Rpc.make("environment/status", {
    payload: Empty,
    success: Schema.Struct({ status: Schema.Literal("ready") }),
    error: Failure
  }),
  /** Starts a process. The answer leaves before any notification of the process. */
  Rpc.make("process/start", {
    payload: StartParams,
    success: Schema.Struct({
      processId: ProcessId,
      sandboxType: oneOf("none", "linuxSeccomp"),
      pid: ours(Schema.NullOr(Integer), () => null)
    }),
    error: Failure
  }),
  /** Reads retained output; waits up to `waitMs` for some. The first chunk is given whatever `maxBytes` says. */
  Rpc.make("process/read", {
    payload: Schema.Struct({ ...ofProcess, afterSeq: maybe(Count), maxBytes: maybe(Count), waitMs: maybe(Count) }),
    success: ReadResult,
    error: Failure
  }),
  /** Queues bytes for the child's stdin. A `writeId` makes it idempotent: the second write of one id changes nothing. */
  Rpc.make("process/write", {
    payload: Schema.Struct({
      ...ofProcess,
      chunk: Bytes,
      writeId: maybe(Text.pipe(Schema.nonEmptyString({ message: () => "writeId must not be empty" })))
    }),
    success: WriteResult,
    error: Failure
  }),
  /** Ends stdin after what was written before; a terminal gets its EOF character (ours). */
  Rpc.make("process/closeStdin", { payload: Schema.Struct(ofProcess), success: Empty, error: Failure }),
  /** Gives the terminal a new size (ours). */
  Rpc.make("process/resize", {
    payload: Schema.Struct({ ...ofProcess, rows: Cells, cols: Cells }),
    success: Empty,
    error: Failure
  }),
  /** Sends a signal to the process group, the leader or the tree; `{}` also where nobody is left to get it. */
  Rpc.make("process/signal", {
    payload: Schema.Struct({
      ...ofProcess,
      signal: SignalName,
      target: maybe(oneOf("group", "leader", "tree"))
    }),
    success: Empty,
    error: Failure
  }),
  /** Ends the whole tree. `running` says whether the leader had not exited yet. */
  Rpc.make("process/terminate", {
    payload: Schema.Struct({ ...ofProcess, mode: maybe(TerminateMode) }),
    success: Schema.Struct({ running: Flag }),
    error: Failure
  }),
  /** Waits for the exit, or for `closed` (ours); without `waitMs`, as long as it takes. */
  Rpc.make("process/wait", {
    payload: Schema.Struct({ ...ofProcess, waitMs: maybe(Count), until: maybe(oneOf("exited", "closed")) }),
    success: WaitResult,
    error: Failure
  }),
  /** Gives all retained output and the state of the process at once (ours). */
  Rpc.make("process/snapshot", { payload: Schema.Struct(ofProcess), success: SnapshotResult, error: Failure }),
  /** Lists the processes of the session, in the order they were started (ours). */
  Rpc.make("process/list", {
    payload: Empty,
    success: Schema.Struct({ processes: Schema.Array(ProcessInfo) }),
    error: Failure
  })
).merge(FileSystemApi, HttpApi, DiscoveryApi) {}

/** The name of a request. */
export type Method = RpcGroup.Rpcs<typeof ExecApi>["_tag"]
