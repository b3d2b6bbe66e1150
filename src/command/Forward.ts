/**
 * `forward`: registers an existing server as a remote environment, and passes its clients on to it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Token from "../client/Token.js"
import * as WebSocketLink from "../client/WebSocketLink.js"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as ServerSecrets from "../internal/ServerSecrets.js"
import { redactUrl } from "../protocol/Redact.js"
import * as Forward from "../remote/Forward.js"
import * as ListenConfig from "../server/ListenConfig.js"
import * as Logging from "../server/Logging.js"
import * as ServerConfig from "../server/ServerConfig.js"
import { Transport } from "../transport/Transport.js"
import { announceRegistration } from "./Announce.js"
import { UsageError } from "./CommandExit.js"
import { eraseSecrets } from "./EraseSecrets.js"
import * as MemoryTuning from "./MemoryTuning.js"
import { stdinClosed } from "./StdinClosed.js"

/** The settings of the server that `forward` has too. */
export const settings = [
  "remote",
  "environmentId",
  "remoteTokenFile",
  "remoteProfile",
  "remoteIdentity",
  "remoteTransport",
  "awsSigv4",
  "awsProfile",
  "awsRegion",
  "awsService",
  "exitOnStdinClose",
  "logFormat",
  "logLevel"
] as const satisfies ReadonlyArray<ServerConfig.Key>

/** The arguments of `forward`. */
export interface Options {
  /** The server: `ws://`, `wss://`, or `unix:///PATH`. */
  readonly connect: string | undefined
  /** The file with the token for the server. */
  readonly tokenFile: string | undefined
  readonly insecure: boolean
  /** The settings that were given, as texts. */
  readonly texts: ServerConfig.Texts
}

const refuse = (message: string) => Either.left(new UsageError({ message }))

const parseConnect = (given: string | undefined): Either.Either<string, UsageError> => {
  if (given === undefined) {
    return refuse("--connect is missing: the URL of the server to forward to, such as ws://127.0.0.1:8080")
  }
  const url = given.trim()
  const isUnix = /^unix:\/\/\/./.test(url)
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  const isWebSocket = parsed !== undefined && /^wss?:$/.test(parsed.protocol)
  if (!isUnix && !isWebSocket) {
    return refuse(`--connect: ${JSON.stringify(redactUrl(url))} is not ws://HOST:PORT, wss://HOST or unix:///PATH`)
  }
  return parsed?.hash === "" ? Either.right(url) : refuse("--connect: the URL contains a fragment identifier")
}

/** The variables of the settings that `forward` has. Others are for servers. */
const variablesOf = (environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(
    settings.flatMap(ServerConfig.variablesOf).flatMap((name) => {
      const value = environment[name]
      return value === undefined ? [] : [[name, value]]
    })
  )

/** Serves until it is interrupted. Fails if the environment cannot be registered at the start. */
export const forward = ({ connect, tokenFile, insecure, texts }: Options) =>
  Effect.gen(function* () {
    const url = yield* parseConnect(connect)
    const loaded = yield* ServerConfig.load(texts, variablesOf(process.env), undefined)
    if (loaded.remote === undefined) {
      return yield* new UsageError({ message: "--remote is missing: the base URL of an environment registry" })
    }
    const config = { ...loaded, insecure }
    const listen = yield* ListenConfig.parse(config)
    if (listen._tag !== "Remote" && listen._tag !== "Direct") {
      return yield* Effect.dieMessage(`forward has settings of ${listen._tag}`)
    }
    const variables = ServerSecrets.select(process.env)
    const loadToken = Effect.suspend(() => Token.load({ tokenFile, variables }))
    const token = yield* loadToken
    yield* WebSocketLink.checkSecret(url, { token, insecure })
    yield* eraseSecrets
    const warning = tokenFile === undefined ? Effect.void : PrivateFile.warn("the token in", tokenFile)
    const serve = Forward.make({
      url,
      // Read for each connection, so that the token can be renewed.
      headers: Effect.mapBoth(loadToken, {
        onFailure: ({ message }) => message,
        onSuccess: (token) => WebSocketLink.headersOf({ token })
      }),
      pingIntervalMs: config.pingIntervalMs
    })
    const served = Effect.zipRight(
      warning,
      Effect.flatMap(Transport, ({ run }) => run(serve))
    )
    yield* (config.exitOnStdinClose ? Effect.raceFirst(served, stdinClosed) : served).pipe(
      Effect.provide(ListenConfig.layerRemote(listen, announceRegistration)),
      Effect.provide(Logging.layer(config)),
      (served) => Effect.zipRight(MemoryTuning.tuneServer, served)
    )
  })
