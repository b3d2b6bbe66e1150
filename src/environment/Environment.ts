/**
 * A place where things are done: processes, files and HTTP requests, whether on this machine or on another.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type ClientError, Unsupported } from "../client/ClientError.js"
import * as ExecClient from "../client/ExecClient.js"
import type { Files } from "../client/Files.js"
import type { Http } from "../client/Http.js"
import type { Processes } from "../client/Processes.js"
import * as Token from "../client/Token.js"
import { provideInOrder } from "../internal/Wiring.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"
import * as ExecServer from "../server/ExecServer.js"
import * as NodeServices from "../server/NodeServices.js"
import { allEnabled, type Enabled, type Entry, remoteId } from "./EnvironmentConfig.js"

/** Why there is no environment to work in. */
export type EnvironmentError = ClientError | Token.TokenError

/** One environment, connected. What it is not there for fails with `Unsupported`. */
export interface Environment extends Enabled {
  readonly id: string
  /** Whether this is the machine that the program runs on. */
  readonly isLocal: boolean
  /** Starts processes; they end with the environment, if not before. */
  readonly processes: Processes
  readonly files: Files
  readonly http: Http
  /** The machine. */
  readonly info: EnvironmentInfo
  /** What all of this goes through, whatever the environment is there for. */
  readonly client: ExecClient.Shape
}

const refusal = (id: string, what: string, key: string) =>
  new Unsupported({ server: `environment \`${id}\``, what, advice: `its configuration says ${key} = false` })

/** The same services, all of which fail. */
const noProcesses = (error: Unsupported): Processes => ({
  start: () => error,
  startScoped: () => error,
  attach: () => error
})

const noFiles = (error: Unsupported): Files => ({
  readFile: () => error,
  writeFile: () => error,
  read: () => Stream.fail(error),
  write: () => error,
  createDirectory: () => error,
  getMetadata: () => error,
  canonicalize: () => error,
  readDirectory: () => error,
  walk: () => error,
  remove: () => error,
  copy: () => error
})

/** An environment that a client works in: what a provider of one's own gives. */
export const of = (
  id: string,
  isLocal: boolean,
  client: ExecClient.Shape,
  { execEnabled, filesystemEnabled }: Enabled = allEnabled
): Environment => {
  const { start, startScoped, attach, http, environmentInfo: info } = client
  return {
    id,
    isLocal,
    execEnabled,
    filesystemEnabled,
    processes: execEnabled ? { start, startScoped, attach } : noProcesses(refusal(id, "run processes", "exec_enabled")),
    files: filesystemEnabled ? client.files : noFiles(refusal(id, "work on files", "filesystem_enabled")),
    http,
    info,
    client
  }
}

/** What serves this machine in this process. */
const sessions = ExecServer.layerSessions.pipe(provideInOrder(NodeServices.layer))

/** This machine, without a server to connect to: the same services in this process. It ends with the scope. */
export const local = (id: string): Effect.Effect<Environment, ClientError, Scope.Scope> =>
  Effect.flatMap(Layer.build(sessions), (server) =>
    Effect.map(Effect.provide(ExecClient.connectInProcess(), server), (client) => of(id, true, client))
  )

/** A configured environment; it ends with the scope. */
export const remote = (
  { id, target, initializeTimeoutMs, execEnabled = true, filesystemEnabled = true }: Entry,
  { resumeSessionId }: Pick<ExecClient.Options, "resumeSessionId"> = {}
): Effect.Effect<Environment, EnvironmentError, Scope.Scope> =>
  Effect.gen(function* () {
    const options = { clientName: "exec-server-environment", initializeTimeoutMs, resumeSessionId }
    const enabled = { execEnabled, filesystemEnabled }
    if (target._tag === "Program") {
      return of(id, false, yield* ExecClient.connectStdio({ ...options, ...target }), enabled)
    }
    const { url, connectTimeoutMs, tokenFile, insecure } = target
    // The variable's token is for the server that a flag or a variable names, and no configured one's to have.
    const variables = id === remoteId ? process.env : {}
    const token = yield* Token.load({ tokenFile, variables })
    return of(id, false, yield* ExecClient.connect({ ...options, url, connectTimeoutMs, token, insecure }), enabled)
  })

/** Whether an environment is of no use any more: its connection has ended for good. */
export const hasEnded = ({ client }: Environment): Effect.Effect<boolean> =>
  Effect.map(client.state, ({ _tag }) => _tag === "Ended")
