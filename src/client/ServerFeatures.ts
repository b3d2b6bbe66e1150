/**
 * The features of a server. Ours declares that it supports the whole protocol. Versions of the original are recognized
 * by their environment info; what each supports was found by testing them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Struct from "effect/Struct"
import { type EnvironmentInfo, ownStartFields, type StartParams } from "../protocol/ExecApi.js"
import { Code } from "../protocol/Failure.js"
import type { Call, Result } from "./Api.js"
import { type ClientError, Unsupported } from "./ClientError.js"

/**
 * What a server supports.
 *
 * @category models
 */
export interface ServerFeatures {
  /** The name of the server in messages. */
  readonly server: string
  /** The form of paths that it accepts: `file:` URIs, plain absolute paths, or both. */
  readonly paths: "any" | "uri" | "plain"
  /** The signals it can send: any, to the group, the leader or the tree; or only SIGINT, to the group. */
  readonly signals: "any" | "interrupt" | "none"
  /**
   * Whether it supports our extensions: closeStdin, resize, wait, snapshot, list, graceful termination, time limits,
   * restarts, and the count of dropped output.
   */
  readonly extensions: boolean
  /** Whether it deduplicates writes by `writeId`. */
  readonly writeIds: boolean
  /** Whether it enforces the `sandbox` of a process. Other servers have been seen to ignore it. */
  readonly processSandbox: boolean
  /** Whether it serves requests on files; its operator may have turned them off. */
  readonly files: boolean
  /** Whether it makes HTTP requests; its operator may have turned them off. */
  readonly http: boolean
  /** Whether it supports `fs/readBlock` and `fs/walk`. */
  readonly fileBlocks: boolean
  /** Whether it supports `fs/writeBlock`. Other servers open a file for reading even with `mode: "replace"`. */
  readonly fileBlockWrites: boolean
  /** Whether it supports `followSymlinks`. Other servers follow links. */
  readonly noFollow: boolean
  /** Whether it supports `redirectPolicy`. Other servers follow redirects. */
  readonly redirectPolicy: boolean
  /** Whether it supports `valueEnvVar` of a header. Other servers send the header without it. */
  readonly headerVariables: boolean
  /** The largest file in one message, in bytes; the server drops the connection for a larger message. */
  readonly maxWriteBytes: number
}

/**
 * An environment of which nothing is known.
 *
 * @category utilities
 */
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

/** The original's WebSocket frames hold 16 MiB: base64, with room for the path. */
const originalMaxWriteBytes = 11 * 1048576

const ours: ServerFeatures = {
  server: "this server",
  paths: "any",
  signals: "any",
  extensions: true,
  writeIds: true,
  processSandbox: true,
  files: true,
  http: true,
  fileBlocks: true,
  fileBlockWrites: true,
  noFollow: true,
  redirectPolicy: true,
  headerVariables: true,
  maxWriteBytes: Number.POSITIVE_INFINITY
}

/** The features of our server, without those that it reports as turned off. */
const oursWith = ({ capabilities }: EnvironmentInfo): ServerFeatures => ({
  ...ours,
  files: capabilities["files"] !== false,
  http: capabilities["http"] !== false,
  headerVariables: capabilities["httpHeaderEnvVars"] !== false
})

/** 0.120 to 0.138. */
const first: ServerFeatures = {
  server: "this server (codex, before 0.139)",
  paths: "plain",
  signals: "none",
  extensions: false,
  writeIds: false,
  processSandbox: false,
  files: true,
  http: true,
  fileBlocks: false,
  fileBlockWrites: false,
  noFollow: false,
  redirectPolicy: false,
  headerVariables: false,
  maxWriteBytes: originalMaxWriteBytes
}

/** The features of the original, recognized by its environment info. */
const featuresOf = (info: EnvironmentInfo, saidAtOnce: boolean): ServerFeatures => {
  // 0.139 to 0.143 send only their shell. Some accept both forms of a path; all accept plain ones.
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

/**
 * The identified server.
 *
 * @category models
 */
export interface Detected {
  readonly features: ServerFeatures
  readonly environmentInfo: EnvironmentInfo
}

/**
 * Identifies a server by its result of `initialize`, or else by further requests.
 *
 * @category utilities
 */
export const detect = (hello: Result<"initialize">, call: Call): Effect.Effect<Detected, ClientError> => {
  const { protocolVersion, environmentInfo } = hello
  if (protocolVersion !== null) {
    return Effect.succeed(
      environmentInfo === null
        ? { features: ours, environmentInfo: unknownEnvironment }
        : { features: oursWith(environmentInfo), environmentInfo }
    )
  }
  if (environmentInfo !== null) {
    return Effect.succeed({ features: featuresOf(environmentInfo, true), environmentInfo })
  }
  return call("environment/info", {}).pipe(
    Effect.map((environmentInfo) => ({ features: featuresOf(environmentInfo, false), environmentInfo })),
    Effect.catchIf(isUnknownMethod, () => Effect.succeed({ features: first, environmentInfo: unknownEnvironment }))
  )
}

/**
 * Whether an error says that the server does not know the method.
 *
 * @category predicates
 */
export const isUnknownMethod = (error: ClientError): boolean =>
  error._tag === "ServerError" && error.code === Code.methodNotFound

/**
 * Calls that fail with `Unsupported` if the server does not know the method.
 *
 * @category utilities
 */
export const asking = (call: Call, { server }: ServerFeatures): Call => {
  const ask: Call = (method, params) =>
    Effect.mapError(call(method, params), (error) =>
      isUnknownMethod(error) ? new Unsupported({ server, what: `serve ${method}` }) : error
    )
  return ask
}

/**
 * Fails with `Unsupported` unless a feature is there; `what` completes the sentence "this server cannot".
 *
 * @category utilities
 */
export const need = (
  { server }: ServerFeatures,
  served: boolean,
  what: string,
  advice?: string
): Effect.Effect<void, Unsupported> => (served ? Effect.void : new Unsupported({ server, what, advice }))

/**
 * Fails unless the server serves requests on files.
 *
 * @category utilities
 */
export const needFiles = (features: ServerFeatures): Effect.Effect<void, Unsupported> =>
  need(features, features.files, "serve requests on files", "it was started with allowFiles = false")

/**
 * Fails unless the server makes HTTP requests.
 *
 * @category utilities
 */
export const needHttp = (features: ServerFeatures): Effect.Effect<void, Unsupported> =>
  need(features, features.http, "make HTTP requests", "it was started with allowHttp = false")

/** Whether a sandbox may restrict something; its entries are not examined. */
const restricts = (sandbox: StartParams["sandbox"]): boolean => {
  if (sandbox === undefined || sandbox.permissions.type === "disabled") return false
  const { permissions } = sandbox
  if (permissions.network === "restricted") return true
  return permissions.type === "managed" && permissions.file_system.type === "restricted"
}

const ownMembers = Struct.keys(ownStartFields)

/**
 * Fails for fields of `process/start` that the server would silently ignore.
 *
 * @category utilities
 */
export const needForStart = (features: ServerFeatures, params: StartParams): Effect.Effect<void, Unsupported> => {
  const { sandbox, enforceManagedNetwork } = params
  const asked = features.extensions ? undefined : ownMembers.find((member) => params[member] !== undefined)
  if (asked !== undefined) return need(features, false, `serve \`${asked}\` of process/start`)
  const confined = restricts(sandbox) || enforceManagedNetwork === true
  return need(features, features.processSandbox || !confined, "restrict a process", "start it without `sandbox`")
}
