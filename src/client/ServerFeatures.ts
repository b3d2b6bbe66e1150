/**
 * What a server serves. Ours says that it serves all of the protocol; of the original it is known by what it tells of
 * itself: its generations were asked, one by one.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { EnvironmentInfo, StartParams } from "../protocol/ExecApi.js"
import { Code } from "../protocol/Failure.js"
import type { Call, Result } from "./Api.js"
import { type ClientError, Unsupported } from "./ClientError.js"

/** What a client must know of a server before it asks. */
export interface ServerFeatures {
  /** What the server is, for messages. */
  readonly server: string
  /** How it takes paths: as `file:` URIs, as plain absolute paths, or either way. */
  readonly paths: "any" | "uri" | "plain"
  /** Which signals it sends: any to the group, the leader or the tree; or only SIGINT to the group. */
  readonly signals: "any" | "interrupt" | "none"
  /**
   * Whether it serves what is ours: the end of stdin, the size of a terminal, waiting, snapshots, the list of processes,
   * a graceful end, time limits and restarts; and whether it says how much output it has dropped.
   */
  readonly extensions: boolean
  /** Whether it knows a write again by its `writeId`. */
  readonly writeIds: boolean
  /** Whether a `sandbox` restricts a process. Where not, servers have been seen to run the process without it. */
  readonly processSandbox: boolean
  /** Whether it reads files in blocks, and lists everything below a directory. */
  readonly fileBlocks: boolean
  /** Whether it writes files in blocks. Where not, a file opened for writing is opened for reading. */
  readonly fileBlockWrites: boolean
  /** Whether it knows `followSymlinks`. Where not, links are followed. */
  readonly noFollow: boolean
  /** Whether it knows `redirectPolicy`. Where not, redirects are followed. */
  readonly redirectPolicy: boolean
  /** Whether it knows `valueEnvVar` of a header. Where not, the header is sent without it. */
  readonly headerVariables: boolean
  /** The largest file it takes in one message, in bytes; it drops the connection for what does not fit into one. */
  readonly maxWriteBytes: number
}

/** Of an environment nothing is known. */
export const unknownEnvironment: EnvironmentInfo = {
  shell: null,
  executorVersion: null,
  cwd: null,
  userHomeDir: null,
  platformOs: null,
  prependPathDirs: [],
  temporaryDirectories: [],
  tempDir: null,
  capabilities: {}
}

/** A frame of the original's WebSocket holds 16 MiB: of base64, with room for the path around it. */
const originalMaxWriteBytes = 11 * 1048576

const ours: ServerFeatures = {
  server: "this server",
  paths: "any",
  signals: "any",
  extensions: true,
  writeIds: true,
  processSandbox: true,
  fileBlocks: true,
  fileBlockWrites: true,
  noFollow: true,
  redirectPolicy: true,
  headerVariables: true,
  maxWriteBytes: Number.POSITIVE_INFINITY
}

/** 0.120 to 0.138. */
const first: ServerFeatures = {
  server: "this server (codex, before 0.139)",
  paths: "plain",
  signals: "none",
  extensions: false,
  writeIds: false,
  processSandbox: false,
  fileBlocks: false,
  fileBlockWrites: false,
  noFollow: false,
  redirectPolicy: false,
  headerVariables: false,
  maxWriteBytes: originalMaxWriteBytes
}

/** What the original serves that describes its environment so. */
const featuresOf = (info: EnvironmentInfo, saidAtOnce: boolean): ServerFeatures => {
  // 0.139 to 0.143 tell their shell alone. Of those that take both forms of a path, all take the plain one.
  if (info.cwd === null && info.executorVersion === null) {
    return { ...first, server: "this server (codex, before 0.144)", signals: "interrupt" }
  }
  return {
    ...first,
    server: `this server (codex ${info.executorVersion ?? "before 0.153"})`,
    paths: "uri",
    signals: "interrupt",
    writeIds: true,
    fileBlocks: true,
    fileBlockWrites: info.capabilities["fileWriteStreaming"] === true,
    headerVariables: info.capabilities["httpHeaderEnvVars"] === true,
    // From 0.153 on, as is what follows.
    processSandbox: saidAtOnce,
    noFollow: saidAtOnce,
    redirectPolicy: saidAtOnce
  }
}

/** What a server is, once it has been asked. */
export interface Detected {
  readonly features: ServerFeatures
  readonly environmentInfo: EnvironmentInfo
}

/** Finds out what a server serves: from its answer to `initialize`, or by asking for what is not in it. */
export const detect = (hello: Result<"initialize">, call: Call): Effect.Effect<Detected, ClientError> => {
  const { protocolVersion, environmentInfo } = hello
  if (protocolVersion !== null) {
    return Effect.succeed({ features: ours, environmentInfo: environmentInfo ?? unknownEnvironment })
  }
  if (environmentInfo !== null) {
    return Effect.succeed({ features: featuresOf(environmentInfo, true), environmentInfo })
  }
  return call("environment/info", {}).pipe(
    Effect.map((environmentInfo) => ({ features: featuresOf(environmentInfo, false), environmentInfo })),
    Effect.catchIf(isUnknownMethod, () => Effect.succeed({ features: first, environmentInfo: unknownEnvironment }))
  )
}

/** Whether a server has answered that it does not serve the method. */
export const isUnknownMethod = (error: ClientError): boolean =>
  error._tag === "ServerError" && error.code === Code.methodNotFound

/** Requests that fail with `Unsupported` where the server does not know the method. */
export const asking = (call: Call, { server }: ServerFeatures): Call => {
  const ask: Call = (method, params) =>
    Effect.mapError(call(method, params), (error) =>
      isUnknownMethod(error) ? new Unsupported({ server, what: `serve ${method}` }) : error
    )
  return ask
}

/** Fails where something is not served; `what` completes the sentence "this server cannot". */
export const need = (
  { server }: ServerFeatures,
  served: boolean,
  what: string,
  advice?: string
): Effect.Effect<void, Unsupported> => (served ? Effect.void : new Unsupported({ server, what, advice }))

/** Whether a sandbox restricts something, or may: its entries are not looked at. */
const restricts = (sandbox: StartParams["sandbox"]): boolean => {
  if (sandbox === undefined || sandbox.permissions.type === "disabled") return false
  const { permissions } = sandbox
  if (permissions.network === "restricted") return true
  return permissions.type === "managed" && permissions.file_system.type === "restricted"
}

/** Fails for what `process/start` asks of a server that would leave it out without a word. */
export const needForStart = (features: ServerFeatures, params: StartParams): Effect.Effect<void, Unsupported> => {
  const { timeoutMs, restart, size, prepared, sandbox, enforceManagedNetwork } = params
  if (!features.extensions) {
    const asked = Object.entries({ timeoutMs, restart, size, prepared }).find(([, value]) => value !== undefined)
    if (asked !== undefined) return need(features, false, `serve \`${asked[0]}\` of process/start`)
  }
  const confined = restricts(sandbox) || enforceManagedNetwork === true
  return need(features, features.processSandbox || !confined, "restrict a process", "start it without `sandbox`")
}
