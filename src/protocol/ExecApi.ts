/**
 * Every request of the protocol: its parameters, its result and its failures. Server, client, documentation and tests
 * derive from this group.
 *
 * Tags give the origin of a rule. Three are versions of the original server: v0 (March 2026), May (2026) and current
 * (0.169). "Ours" marks an extension of this project.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { alsoChecked, checked, unbounded } from "./Bounds.js"
import { DiscoveryApi } from "./DiscoveryApi.js"
import { FileSystemApi } from "./FileSystemApi.js"
import { HttpApi } from "./HttpApi.js"
import { ClientId, ProcessId, SessionHandle, SessionId, SessionName } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { AbsolutePath } from "./PathUri.js"
import { exitFields, OutputStream, processFields, TerminalSize } from "./ProcessSchemas.js"
import { RecordingApi, RecordOptions } from "./RecordingApi.js"
import { Sandbox } from "./Sandbox.js"
import {
  Bytes,
  Cells,
  Count,
  Empty,
  Flag,
  Integer,
  maybe,
  nullOr,
  oneOf,
  optional,
  Seq,
  Text,
  TextList,
  TextMap,
  withFallback
} from "./Schemas.js"
import { ShareApi } from "./ShareApi.js"
import { SignalName } from "./Signals.js"
import * as StartBounds from "./StartBounds.js"
import { ExitUsage, StartLimits } from "./StartLimits.js"
import { policyFields, startFields } from "./Unenforced.js"
import { ListedUsage, UsageApi } from "./UsageApi.js"
import { WatchApi } from "./WatchApi.js"

export { exitFields, OutputStream, TerminalSize } from "./ProcessSchemas.js"

/**
 * Optional features of a connection (ours): in the request, those the client asks for; in the result, those granted.
 *
 * @category schemas
 */
export const Capabilities = Schema.Struct({
  /** Send `process/started` and `process/failed` notifications. */
  lifecycle: optional(Flag),
  /** Send output as binary frames instead of `process/output`; see `BinaryFrame`. On WebSocket and relays. */
  binaryOutput: optional(Flag),
  /**
   * The window in bytes, from 16 KiB to 4 MiB: the server stops reading a process while that much of its output is not
   * acknowledged by `process/ack`. The result has the granted size.
   */
  outputWindow: optional(Count),
  /** Send `usage`, and `oomKilled` if it is true, in `process/exited`. */
  exitUsage: optional(Flag)
})
export type Capabilities = typeof Capabilities.Type

const nullableText = withFallback(nullOr(Text), () => null)
const textList = withFallback(TextList, () => [])

/**
 * The machine the server runs on (current). Directories are `file:` URIs. Fields that older servers do not send decode
 * as null or empty.
 *
 * @category schemas
 */
export const EnvironmentInfo = Schema.Struct({
  shell: withFallback(nullOr(Schema.Struct({ name: Text, path: Text })), () => null),
  executorVersion: nullableText,
  cwd: nullableText,
  userHomeDir: nullableText,
  platformOs: nullableText,
  prependPathDirs: textList,
  temporaryDirectories: textList,
  tempDir: nullableText,
  capabilities: withFallback(Schema.Record({ key: Schema.String, value: Flag }), () => ({}))
})
export type EnvironmentInfo = typeof EnvironmentInfo.Type

const Patterns = checked(TextList, StartBounds.patterns)

/**
 * How a child's environment is derived from the server's own (May); `process/EnvPolicy` documents the steps. A list of
 * patterns has at most 256, of 256 bytes each.
 *
 * @category schemas
 */
export const EnvPolicy = Schema.Struct({
  inherit: oneOf("core", "all", "none"),
  ignoreDefaultExcludes: Flag,
  exclude: Patterns,
  set: TextMap,
  includeOnly: Patterns
})
export type EnvPolicy = typeof EnvPolicy.Type

/**
 * When to restart a process that exits on its own (ours). `onFailure` restarts after a signal or a non-zero status.
 * After `maxRestarts` restarts within `withinMs`, the next exit is final. The delay before a restart starts at
 * `backoffMs` and doubles up to `maxBackoffMs`. All times are in milliseconds.
 *
 * @category schemas
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

/**
 * The members of `process/start` that only our servers have: others ignore them.
 *
 * @category schemas
 */
export const ownStartFields = {
  /** The size of the terminal (ours); 24 rows by 80 columns by default. */
  size: maybe(TerminalSize),
  /**
   * Who sets the size of the terminal (ours): only `process/resize` (`owner`, the default), or also the attachment that
   * drives it, with `attachment/drive`.
   */
  sizePolicy: maybe(oneOf("owner", "driver")),
  /** Keeps the screen of the terminal from the start (ours), so that those who attach later see all of it. */
  screen: maybe(Flag),
  /** Record the process from its start (ours); see `recording/start`. */
  record: maybe(RecordOptions),
  /** The time limit in milliseconds (ours); the server then ends the whole process tree. */
  timeoutMs: maybe(Count),
  /** What the process may use (ours). The server enforces each limit or refuses the request. */
  limits: maybe(StartLimits),
  /** Restarts the process when it exits on its own (ours). It keeps its id and its `seq` counter. */
  restart: maybe(Restart),
  /** The client has already resolved the command; spawn it exactly as given (from v0's design notes). */
  prepared: maybe(Flag)
}

const startParams = Schema.Struct({
  /** The id for the process, unique in the session. */
  processId: ProcessId,
  /** Program and arguments; a program without a slash is looked up in the child's own `PATH`. */
  argv: unbounded(TextList),
  /** The working directory. */
  cwd: AbsolutePath,
  /** The child's whole environment; with `envPolicy`, variables that are added to the inherited ones. */
  env: TextMap,
  /** Whether it gets a terminal, whose output is the stream `pty`. */
  tty: Flag,
  /** The child's `argv[0]`, if it is not the program's name. */
  arg0: maybe(Text),
  /** Without `tty`: stdin is a writable pipe instead of /dev/null. Must not be null (current). */
  pipeStdin: Schema.optionalWith(Flag, { default: () => false }),
  /** Which variables of the server it inherits; by default none. */
  envPolicy: maybe(EnvPolicy),
  /** The files and network the process may access. The server enforces it or refuses the request. */
  sandbox: maybe(Sandbox),
  ...policyFields,
  ...startFields,
  /**
   * The client's own ids for the process (current), passed to the child as `CODEX_THREAD_ID` and `CODEX_TOOL_CALL_ID`.
   */
  metadata: maybe(Schema.Struct({ threadId: maybe(Uuid), toolCallId: maybe(ClientId) })),
  ...ownStartFields
})

/**
 * The parameters of `process/start`. Arguments and environment have at most 2 MiB together, a `PATH` 64 KiB (ours).
 *
 * @category schemas
 */
export const StartParams = alsoChecked(startParams, StartBounds.start)
export type StartParams = typeof StartParams.Type

/**
 * How `process/terminate` ends the tree (ours): SIGKILL at once, or SIGTERM first and SIGKILL `timeoutMs` later.
 *
 * @category schemas
 */
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

/**
 * One chunk of output: raw bytes, at most 64 KiB.
 *
 * @category schemas
 */
export const OutputChunk = Schema.Struct({ seq: Seq, stream: OutputStream, chunk: Bytes })
export type OutputChunk = typeof OutputChunk.Type

/**
 * Dropped output (ours): the `seq` of its first and last chunk, and its size in bytes. A process has at most one gap.
 *
 * @category schemas
 */
export const Gap = Schema.Struct({ fromSeq: Seq, throughSeq: Seq, bytes: Count })
export type Gap = typeof Gap.Type

/** What ended a process (ours), for clients that have not got `process/exited`. */
const causeFields = {
  /** True if `timeoutMs` ran out, otherwise absent. */
  timedOut: optional(Flag),
  /** True if the kernel has killed a process of its tree for lack of memory, otherwise absent. */
  oomKilled: optional(Flag)
}

/**
 * The result of `process/read`: retained output after a cursor.
 *
 * @category schemas
 */
export const ReadResult = Schema.Struct({
  chunks: Schema.Array(OutputChunk),
  /** To continue, read with `afterSeq = nextSeq - 1`. */
  nextSeq: Seq,
  exited: Flag,
  ...exitFields,
  /** Whether it has exited and all its output was read. */
  closed: Flag,
  /** Always null from this server. */
  failure: nullOr(Text),
  sandboxDenied: withFallback(Flag, () => false),
  ...causeFields,
  /** Whether something after `afterSeq` was dropped (ours). */
  truncated: withFallback(Flag, () => false),
  /** Bytes of output dropped so far (ours). */
  droppedBytes: withFallback(Count, () => 0),
  /** The output dropped so far (ours); absent if there is none. */
  gap: optional(Gap)
})
export type ReadResult = typeof ReadResult.Type

/**
 * The result of `process/write`. `accepted` means queued for the child, in order, not read by the child.
 *
 * @category schemas
 */
export const WriteResult = Schema.Struct({
  /** Whether `status` is `accepted` (v0); later versions of the original do not send it. */
  accepted: optional(Flag),
  status: oneOf("accepted", "unknownProcess", "starting", "stdinClosed")
})
export type WriteResult = typeof WriteResult.Type

/**
 * The result of `process/wait` (ours): the state of the process when the wait ended.
 *
 * @category schemas
 */
export const WaitResult = Schema.Struct({
  exited: Flag,
  ...exitFields,
  closed: Flag,
  /** What it has used; absent while it runs, if it is not known, and from older servers. */
  usage: optional(ExitUsage),
  ...causeFields
})
export type WaitResult = typeof WaitResult.Type

/**
 * Dropped output of one stream (ours): `bytes` are missing at `offset` of the retained output.
 *
 * @category schemas
 */
export const Omission = Schema.Struct({ offset: Count, bytes: Count })
export type Omission = typeof Omission.Type

/**
 * The result of `process/snapshot` (ours): all retained output. A terminal's output is in `terminal` only.
 *
 * @category schemas
 */
export const SnapshotResult = Schema.Struct({
  stdout: Bytes,
  stderr: Bytes,
  terminal: Bytes,
  truncated: Flag,
  droppedBytes: Count,
  /** The dropped part of each stream; absent if nothing was dropped. */
  omitted: optional(
    Schema.Struct({
      stdout: optional(Omission),
      stderr: optional(Omission),
      terminal: optional(Omission)
    })
  ),
  ...exitFields,
  running: Flag
})
export type SnapshotResult = typeof SnapshotResult.Type

/**
 * One process in the result of `process/list` (ours). `startedAtMs` is in milliseconds since 1970.
 *
 * @category schemas
 */
export const ProcessInfo = Schema.Struct({
  /** The handle of its session; absent from older servers. */
  session: optional(Text),
  processId: ProcessId,
  pid: nullOr(Integer),
  argv: TextList,
  tty: Flag,
  running: Flag,
  ...exitFields,
  startedAtMs: Integer,
  cwd: optional(Text),
  /** The size of its terminal. */
  size: optional(TerminalSize),
  /** The number of restarts. */
  restarts: optional(Count),
  /** The total output in bytes. */
  outputBytes: optional(Count),
  /** The time of the last output, in milliseconds since 1970; null if there was none. */
  lastOutputAtMs: optional(nullOr(Integer)),
  /** How many attachments watch it. */
  viewers: optional(Count),
  /** The title of its terminal when its screen was last made; null if it has no screen, or no title. */
  title: optional(nullOr(Text)),
  /** The recording in progress; null if there is none. */
  recording: optional(nullOr(Text)),
  /** What it uses with its descendants; null if none of them is alive. At most 250 ms old. */
  usage: optional(nullOr(ListedUsage))
})
export type ProcessInfo = typeof ProcessInfo.Type

/**
 * What the token of a connection permits (ours); see `session/grant`.
 *
 * @category schemas
 */
export const GrantInfo = Schema.Struct({
  /** The subject that authenticated. */
  subject: Text,
  role: oneOf("client", "viewer", "operator"),
  /** The handle of the connection's own session. */
  session: Text,
  /** The session, and the process if not all of them, that a viewer or an operator is limited to; null if to none. */
  scope: Schema.NullOr(Schema.Struct({ session: Text, processId: Schema.NullOr(Text) })),
  /** When the token expires, and the connection ends, in milliseconds since 1970; null if it does not expire. */
  expiresAtMs: Schema.NullOr(Integer)
})
export type GrantInfo = typeof GrantInfo.Type

/**
 * One session in the result of `session/list` (ours). Times are in milliseconds since 1970.
 *
 * @category schemas
 */
export const SessionInfo = Schema.Struct({
  session: Text,
  name: nullOr(Text),
  clientName: Text,
  /** The subject it belongs to. */
  subject: Text,
  /** The peer of its current or last connection. */
  peer: Text,
  state: oneOf("attached", "detached"),
  openedAtMs: Integer,
  /** When it expires unless it is resumed; null if it does not expire. */
  expiresAtMs: nullOr(Integer),
  /** Its processes, and how many of them have not exited. */
  processes: Count,
  running: Count,
  /** Whether it is the session of the requesting connection. */
  own: Flag
})
export type SessionInfo = typeof SessionInfo.Type

/**
 * All requests.
 *
 * @category schemas
 */
export class ExecApi extends RpcGroup.make(
  /** Opens a session; the first request of a connection. With `resumeSessionId`, resumes a detached session instead. */
  request("initialize", {
    family: "handshake",
    access: "open",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      /** Any text, for lists and logs. */
      clientName: Text,
      /** The session to resume; null for a new one that can be resumed. */
      resumeSessionId: optional(nullOr(ClientId)),
      /** Resume the session even if it is attached, and close its other connection (ours). */
      takeover: maybe(Flag),
      /**
       * How long the session waits to be resumed after a lost connection, in milliseconds (ours); null: until it is ended.
       * At most `maxSessionTtlMs`; `detachedSessionTtlMs` by default.
       */
      sessionTtlMs: optional(nullOr(Count)),
      /** A name for the session, unique among the subject's sessions (ours). */
      name: maybe(SessionName),
      /** What the client asks for. */
      capabilities: optional(nullOr(Capabilities))
    }),
    success: Schema.Struct({
      /** Only our servers send it (ours). It means that the server implements this whole protocol. */
      protocolVersion: withFallback(nullOr(Schema.Literal("exec-server.v0")), () => null),
      /** What resumes the session: a secret. */
      sessionId: SessionId,
      /** Null from older servers; some of them answer `environment/info`. */
      environmentInfo: withFallback(nullOr(EnvironmentInfo), () => null),
      /** What the server grants. */
      capabilities: withFallback(Capabilities, () => ({}))
    })
  }),
  /** Describes the machine the server runs on (current). */
  request("environment/info", {
    family: "environment info",
    access: "open",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: EnvironmentInfo
  }),
  /** Answers that the server is ready (current). */
  request("environment/status", {
    family: "environment info",
    access: "open",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: Schema.Struct({ status: Schema.Literal("ready") })
  }),
  /** Says which limits the server has, by the names of its settings; null for none (ours). */
  request("environment/limits", {
    family: "environment info",
    access: "open",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: Schema.Struct({ limits: Schema.Record({ key: Schema.String, value: nullOr(Count) }) })
  }),
  /** Starts a process. The response is sent before any notification of the process. */
  request("process/start", {
    family: "exec",
    access: "use",
    repeatable: "never",
    largeAnswer: false,
    payload: StartParams,
    success: Schema.Struct({
      processId: ProcessId,
      sandboxType: withFallback(oneOf("none", "linuxSeccomp"), () => "none" as const),
      pid: withFallback(nullOr(Integer), () => null),
      /** With `record` (ours). */
      recordingId: optional(Text)
    })
  }),
  /**
   * Reads retained output, waiting up to `waitMs` for it. Returns at least one chunk, even if it exceeds `maxBytes`.
   */
  request("process/read", {
    family: "exec",
    access: "view",
    repeatable: "always",
    largeAnswer: true,
    answered: "wheneverWithWaitMs",
    payload: Schema.Struct({
      ...processFields,
      /** The last `seq` that the client has; 0 by default. */
      afterSeq: maybe(Count),
      /** The most bytes of output. */
      maxBytes: maybe(Count),
      /** How long to wait for output, in milliseconds; by default not at all. */
      waitMs: maybe(Count)
    }),
    success: ReadResult
  }),
  /** Queues bytes for the child's stdin. With a `writeId` it is idempotent: a repeated id writes nothing. */
  request("process/write", {
    family: "exec",
    access: "control",
    repeatable: "withWriteId",
    largeAnswer: false,
    answered: "whenever",
    payload: Schema.Struct({
      ...processFields,
      /** The bytes. */
      chunk: Bytes,
      writeId: maybe(ClientId.pipe(Schema.nonEmptyString({ message: () => "writeId must not be empty" })))
    }),
    success: WriteResult
  }),
  /** Closes stdin after earlier writes are delivered; a terminal gets its EOF character (ours). */
  request("process/closeStdin", {
    family: "exec",
    access: "control",
    repeatable: "always",
    largeAnswer: false,
    answered: "whenever",
    payload: Schema.Struct(processFields),
    success: Empty
  }),
  /** Resizes the terminal (ours). */
  request("process/resize", {
    family: "exec",
    access: "control",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...processFields, rows: Cells, cols: Cells }),
    success: Empty
  }),
  /** Signals the process group (the default), the leader or the tree. Succeeds even if no process is left. */
  request("process/signal", {
    family: "exec",
    access: "control",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      ...processFields,
      signal: SignalName,
      target: maybe(oneOf("group", "leader", "tree"))
    }),
    success: Empty
  }),
  /** Ends the whole tree. `running` says whether the leader was still running. */
  request("process/terminate", {
    family: "exec",
    access: "control",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ ...processFields, mode: maybe(TerminateMode) }),
    success: Schema.Struct({ running: Flag })
  }),
  /** Waits until the process has exited, or is closed (ours); without `waitMs`, with no limit. */
  request("process/wait", {
    family: "exec",
    access: "view",
    repeatable: "always",
    largeAnswer: false,
    answered: "whenever",
    payload: Schema.Struct({ ...processFields, waitMs: maybe(Count), until: maybe(oneOf("exited", "closed")) }),
    success: WaitResult
  }),
  /** Returns all retained output and the state of the process in one response (ours). */
  request("process/snapshot", {
    family: "exec",
    access: "view",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct(processFields),
    success: SnapshotResult
  }),
  /** Lists the processes of a session, or with `session: "*"` those of all visible sessions, in start order (ours). */
  request("process/list", {
    family: "exec",
    access: "list",
    repeatable: "always",
    largeAnswer: true,
    payload: Schema.Struct({ session: maybe(SessionHandle) }),
    success: Schema.Struct({ processes: Schema.Array(ProcessInfo) })
  }),
  /** Says what the token of this connection permits, and until when (ours). */
  request("session/grant", {
    family: "session",
    access: "open",
    repeatable: "always",
    largeAnswer: false,
    payload: Empty,
    success: GrantInfo
  }),
  /** Lists the sessions that the grant may see, oldest first (ours). */
  request("session/list", {
    family: "session",
    access: "list",
    repeatable: "always",
    largeAnswer: true,
    payload: Empty,
    success: Schema.Struct({ sessions: Schema.Array(SessionInfo) })
  }),
  /** Ends a session: kills its processes and closes its connection (ours). `ended` counts the processes that were running. */
  request("session/end", {
    family: "session",
    access: "manage",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ session: SessionHandle }),
    success: Schema.Struct({ ended: Count })
  })
).merge(WatchApi, FileSystemApi, HttpApi, DiscoveryApi, UsageApi, RecordingApi, ShareApi) {}

/**
 * The name of a request.
 *
 * @category models
 */
export type Method = RpcGroup.Rpcs<typeof ExecApi>["_tag"]
