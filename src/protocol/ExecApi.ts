/**
 * Every request of the protocol: its parameters, its result and its failures. Server, client, documentation and tests
 * derive from this group.
 *
 * Where a rule comes from is said as in the original's history: v0 (March 2026), May (2026), now (0.169), or ours.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { DiscoveryApi } from "./DiscoveryApi.js"
import { FileSystemApi } from "./FileSystemApi.js"
import { HttpApi } from "./HttpApi.js"
import { ProcessId, SessionId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { AbsolutePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import { Bytes, Cells, Count, Flag, Integer, ifTold, maybe, oneOf, Text, TextList, TextMap } from "./Schemas.js"
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

const textIfTold = ifTold(Schema.NullOr(Text), () => null)
const listIfTold = ifTold(TextList, () => [])

/**
 * The machine the server runs on (now). Directories are `file:` URIs. Earlier servers tell less: what they do not tell
 * is null, or empty.
 */
export const EnvironmentInfo = Schema.Struct({
  shell: ifTold(Schema.NullOr(Schema.Struct({ name: Text, path: Text })), () => null),
  executorVersion: textIfTold,
  cwd: textIfTold,
  userHomeDir: textIfTold,
  platformOs: textIfTold,
  prependPathDirs: listIfTold,
  temporaryDirectories: listIfTold,
  tempDir: textIfTold,
  capabilities: ifTold(Schema.Record({ key: Schema.String, value: Flag }), () => ({}))
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
  /** What the client knows it by (now): the child finds it in `CODEX_THREAD_ID` and `CODEX_TOOL_CALL_ID`. */
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

/** Status of the leader: `null` while it runs. A signal reads 128 + its number, and has its name beside it (ours). */
export const exitFields = {
  exitCode: Schema.NullOr(Integer),
  signal: ifTold(Schema.NullOr(Text), () => null)
}

/** One retained or live piece of output: raw bytes, at most 64 KiB. */
export const OutputChunk = Schema.Struct({ seq: Count, stream: OutputStream, chunk: Bytes })
export type OutputChunk = typeof OutputChunk.Type

/** Output that was dropped: the numbers of its first and its last chunk, and its bytes. There is at most one gap. */
export const Gap = Schema.Struct({ fromSeq: Count, throughSeq: Count, bytes: Count })
export type Gap = typeof Gap.Type

/** `process/read`: retained output after a cursor. */
export const ReadResult = Schema.Struct({
  chunks: Schema.Array(OutputChunk),
  /** Go on with `afterSeq = nextSeq - 1`. */
  nextSeq: Count,
  exited: Flag,
  ...exitFields,
  closed: Flag,
  failure: Schema.NullOr(Text),
  sandboxDenied: ifTold(Flag, () => false),
  /** Whether something after `afterSeq` was dropped (ours). */
  truncated: ifTold(Flag, () => false),
  /** How many bytes of output were dropped so far (ours). */
  droppedBytes: ifTold(Count, () => 0),
  /** All output that was dropped so far (ours); absent if none was. */
  gap: Schema.optional(Gap)
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

/** Output that was dropped: how many bytes, and after how many of the retained ones they were. */
export const Omission = Schema.Struct({ offset: Count, bytes: Count })
export type Omission = typeof Omission.Type

/** `process/snapshot`: all retained output at once; a terminal's is in `terminal` alone. */
export const SnapshotResult = Schema.Struct({
  stdout: Bytes,
  stderr: Bytes,
  terminal: Bytes,
  truncated: Flag,
  droppedBytes: Count,
  /** What each stream lacks, and where; absent if all are whole. */
  omitted: Schema.optional(
    Schema.Struct({
      stdout: Schema.optional(Omission),
      stderr: Schema.optional(Omission),
      terminal: Schema.optional(Omission)
    })
  ),
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
  request("initialize", {
    family: "handshake",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      clientName: Text,
      resumeSessionId: Schema.optional(Schema.NullOr(Text)),
      capabilities: Schema.optional(Schema.NullOr(Capabilities))
    }),
    success: Schema.Struct({
      /** Of all servers with sessions, only ours tell it: it says that all of this protocol is served. */
      protocolVersion: ifTold(Schema.NullOr(Schema.Literal("exec-server.v0")), () => null),
      sessionId: SessionId,
      /** Earlier servers do not tell it, or only when they are asked with `environment/info`. */
      environmentInfo: ifTold(Schema.NullOr(EnvironmentInfo), () => null),
      capabilities: ifTold(Capabilities, () => ({}))
    })
  }),
  /** Describes the machine the server runs on (now). */
  request("environment/info", {
    family: "environment info",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: EnvironmentInfo
  }),
  /** Says that the server is ready (now). */
  request("environment/status", {
    family: "environment info",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: Schema.Struct({ status: Schema.Literal("ready") })
  }),
  /** Starts a process. The answer leaves before any notification of the process. */
  request("process/start", {
    family: "exec",
    repeatable: "never",
    largeAnswer: false,
    payload: StartParams,
    success: Schema.Struct({
      processId: ProcessId,
      sandboxType: ifTold(oneOf("none", "linuxSeccomp"), () => "none" as const),
      pid: ifTold(Schema.NullOr(Integer), () => null)
    })
  }),
  /** Reads retained output; waits up to `waitMs` for some. The first chunk is given whatever `maxBytes` says. */
  request("process/read", {
    family: "exec",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct({ ...ofProcess, afterSeq: maybe(Count), maxBytes: maybe(Count), waitMs: maybe(Count) }),
    success: ReadResult
  }),
  /** Queues bytes for the child's stdin. A `writeId` makes it idempotent: the second write of one id changes nothing. */
  request("process/write", {
    family: "exec",
    repeatable: "withWriteId",
    largeAnswer: false,
    payload: Schema.Struct({
      ...ofProcess,
      chunk: Bytes,
      writeId: maybe(Text.pipe(Schema.nonEmptyString({ message: () => "writeId must not be empty" })))
    }),
    success: WriteResult
  }),
  /** Ends stdin after what was written before; a terminal gets its EOF character (ours). */
  request("process/closeStdin", {
    family: "exec",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(ofProcess),
    success: Empty
  }),
  /** Gives the terminal a new size (ours). */
  request("process/resize", {
    family: "exec",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...ofProcess, rows: Cells, cols: Cells }),
    success: Empty
  }),
  /** Sends a signal to the process group, the leader or the tree; `{}` also where nobody is left to get it. */
  request("process/signal", {
    family: "exec",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      ...ofProcess,
      signal: SignalName,
      target: maybe(oneOf("group", "leader", "tree"))
    }),
    success: Empty
  }),
  /** Ends the whole tree. `running` says whether the leader had not exited yet. */
  request("process/terminate", {
    family: "exec",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...ofProcess, mode: maybe(TerminateMode) }),
    success: Schema.Struct({ running: Flag })
  }),
  /** Waits for the exit, or for `closed` (ours); without `waitMs`, as long as it takes. */
  request("process/wait", {
    family: "exec",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...ofProcess, waitMs: maybe(Count), until: maybe(oneOf("exited", "closed")) }),
    success: WaitResult
  }),
  /** Gives all retained output and the state of the process at once (ours). */
  request("process/snapshot", {
    family: "exec",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct(ofProcess),
    success: SnapshotResult
  }),
  /** Lists the processes of the session, in the order they were started (ours). */
  request("process/list", {
    family: "exec",
    repeatable: "always",
    largeAnswer: true,
    payload: Empty,
    success: Schema.Struct({ processes: Schema.Array(ProcessInfo) })
  })
).merge(FileSystemApi, HttpApi, DiscoveryApi) {}

/** The name of a request. */
export type Method = RpcGroup.Rpcs<typeof ExecApi>["_tag"]
