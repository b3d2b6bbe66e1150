/**
 * An environment: a machine, local or remote, on which to run processes, use files and make HTTP requests.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type ClientError, Unsupported } from "../client/ClientError.js"
import * as ExecClient from "../client/ExecClient.js"
import type { Files } from "../client/Files.js"
import type { Http } from "../client/Http.js"
import type { Processes } from "../client/Processes.js"
import * as Token from "../client/Token.js"
import { buildAtOnce } from "../internal/Wiring.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"
import * as ExecServer from "../server/ExecServer.js"
import * as NodeServices from "../server/NodeServices.js"
import { allEnabled, type Enabled, type Entry, remoteId } from "./EnvironmentConfig.js"

/**
 * Why an environment could not be connected.
 *
 * @category errors
 */
export type EnvironmentError = ClientError | Token.TokenError

/**
 * A connected environment. Operations that its configuration disables fail with `Unsupported`.
 *
 * @category models
 */
export interface Environment extends Enabled {
  readonly id: string
  /** Whether it is the machine this program runs on. */
  readonly isLocal: boolean
  /** Starts processes; they end at the latest with the environment. */
  readonly processes: Processes
  readonly files: Files
  readonly http: Http
  /** Describes the machine. */
  readonly info: EnvironmentInfo
  /** The client of the connection; `execEnabled` and `filesystemEnabled` do not restrict it. */
  readonly client: ExecClient.Shape
}

const refusal = (id: string, what: string, key: string) =>
  new Unsupported({ server: `environment \`${id}\``, what, advice: `its configuration says ${key} = false` })

/** Processes, each operation of which fails. */
const noProcesses = (error: Unsupported): Processes => ({
  start: () => error,
  startScoped: () => error,
  attach: () => error
})

/** Files, each operation of which fails. */
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

/**
 * Makes an environment from a connected client; for custom providers.
 *
 * @category constructors
 */
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

/**
 * Makes an environment of this machine, served within this process. The scope ends it.
 *
 * @category constructors
 */
export const local = (
  id: string,
  options: Pick<NonNullable<Parameters<typeof ExecClient.connectInProcess>[0]>, "capabilities" | "retention"> = {}
): Effect.Effect<Environment, ClientError, Scope.Scope> =>
  Effect.flatMap(buildAtOnce(NodeServices.layer, ExecServer.layerSessions), (server) =>
    Effect.map(Effect.provide(ExecClient.connectInProcess(options), server), (client) => of(id, true, client))
  )

/**
 * Connects to a configured environment; the scope closes the connection.
 *
 * @category constructors
 */
export const remote = (
  { id, target, initializeTimeoutMs, execEnabled = true, filesystemEnabled = true }: Entry,
  session: Pick<ExecClient.Options, "resumeSessionId" | "takeover" | "name" | "sessionTtl" | "capabilities"> = {}
): Effect.Effect<Environment, EnvironmentError, Scope.Scope> =>
  Effect.gen(function* () {
    const options = { clientName: "exec-server-environment", initializeTimeout: initializeTimeoutMs, ...session }
    const enabled = { execEnabled, filesystemEnabled }
    if (target._tag === "Program") {
      return of(id, false, yield* ExecClient.connectStdio({ ...options, ...target }), enabled)
    }
    const { url, connectTimeoutMs, tokenFile, insecure } = target
    // EXEC_SERVER_TOKEN is for the server named by a flag or variable. Servers in the file must not receive it.
    const variables = id === remoteId ? process.env : {}
    const token = yield* Token.load({ tokenFile, variables })
    return of(
      id,
      false,
      yield* ExecClient.connect({ ...options, url, connectTimeout: connectTimeoutMs, token, insecure }),
      enabled
    )
  })

/**
 * Whether the connection of an environment has ended for good.
 *
 * @category predicates
 */
export const hasEnded = ({ client }: Environment): Effect.Effect<boolean> =>
  Effect.map(client.state, ({ _tag }) => _tag === "Ended")
