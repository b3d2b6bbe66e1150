/**
 * The client: the operations of a server as typed effects and streams, over any transport.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"
import type { SessionId } from "../protocol/Ids.js"
import type { Call, NotificationMethod, NotificationParams, Result } from "./Api.js"
import type { ClientError } from "./ClientError.js"
import * as ClientSession from "./ClientSession.js"
import type { State } from "./ConnectionState.js"
import type { Connector } from "./Connector.js"
import * as Files from "./Files.js"
import * as Http from "./Http.js"
import * as InProcess from "./InProcess.js"
import * as LocalServer from "./LocalServer.js"
import * as NoiseLink from "./NoiseLink.js"
import * as Processes from "./Processes.js"
import * as Recordings from "./Recordings.js"
import * as RelayLink from "./RelayLink.js"
import type { ServerFeatures } from "./ServerFeatures.js"
import * as Sessions from "./Sessions.js"
import * as Shares from "./Shares.js"
import * as StdioLink from "./StdioLink.js"
import * as StreamLink from "./StreamLink.js"
import * as TextChannel from "./TextChannel.js"
import * as Usage from "./Usage.js"
import * as WebSocketLink from "./WebSocketLink.js"

export type { StartOptions } from "./Processes.js"

/**
 * Options of a client.
 *
 * @category models
 */
export interface Options extends ClientSession.Options {}

/**
 * A connected client.
 *
 * @category models
 */
export interface Shape extends Processes.Processes {
  readonly sessionId: SessionId
  /** The server's machine. */
  readonly environmentInfo: EnvironmentInfo
  /** What the server supports: ours everything, the original what its version does. */
  readonly features: ServerFeatures
  /** The capabilities that the server granted. */
  readonly capabilities: Result<"initialize">["capabilities"]
  /** Calls any method of the protocol. Interruption discards the response, but does not cancel the request. */
  readonly call: Call
  /** Calls a listener synchronously for each notification of one method while the scope is open; it must not block. */
  readonly subscribe: <M extends NotificationMethod>(
    method: M,
    listener: (params: NotificationParams<M>) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** HTTP requests from the server's machine. */
  readonly http: Http.Http
  /** Files of the server's machine. */
  readonly files: Files.Files
  /** The sessions of the server that the token permits to see. */
  readonly sessions: Sessions.Sessions
  /** Recordings of what processes print. */
  readonly recordings: Recordings.Recordings
  /** Tokens for one process, for others. */
  readonly shares: Shares.Shares
  /** What processes use: CPU time, memory and I/O. */
  readonly usage: Usage.Usage
  /**
   * Stops reading from the server while the scope is open (backpressure), so that it pauses its processes. For
   * consumers that must not miss output and cannot accept more now. Responses wait as well.
   */
  readonly hold: Effect.Effect<void, never, Scope.Scope>
  /** The state of the connection. */
  readonly state: Effect.Effect<State>
  /** Calls a listener for each change of the state while the scope is open. */
  readonly watch: (listener: (state: State) => void) => Effect.Effect<void, never, Scope.Scope>
  /** Completes with the reason when the connection has ended for good. */
  readonly ended: Effect.Effect<ClientError>
}

/**
 * Makes a client with any connector; the scope closes it.
 *
 * @category constructors
 */
export const make = (connector: Connector, options: Options = {}): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const session = yield* ClientSession.make(connector, options)
    const processes = yield* Processes.make(session)
    const http = yield* Http.make(session)
    const { server, features, environmentInfo } = session
    const { sessionId, capabilities } = server
    return {
      ...processes,
      http,
      files: Files.make(session.ask, features),
      sessions: Sessions.make(session),
      recordings: Recordings.make(session.ask),
      shares: Shares.make(session.ask),
      usage: Usage.make(session),
      hold: Effect.asVoid(Effect.acquireRelease(Effect.sync(session.hold), (release) => Effect.sync(release))),
      sessionId,
      environmentInfo,
      features,
      capabilities,
      call: session.call,
      subscribe: (method, listener) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => session.subscribe(method, listener)),
            (unsubscribe) => Effect.sync(unsubscribe)
          )
        ),
      state: Effect.sync(session.state),
      watch: (listener) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.sync(() => session.watch(listener)),
            (unwatch) => Effect.sync(unwatch)
          )
        ),
      ended: Effect.async((resume) => {
        const look = (state: State) => {
          if (state._tag === "Ended") resume(Effect.succeed(state.error))
        }
        look(session.state())
        return Effect.sync(session.watch(look))
      })
    } satisfies Shape
  })

/** Requests binary output, without base64, from servers that support it. */
const withBinaryOutput = (options: Options): Options => ({
  ...options,
  capabilities: { binaryOutput: true, ...options.capabilities }
})

/**
 * A client of the server at an address. It reconnects after a lost connection.
 *
 * @category constructors
 */
export const connectWebSocket = (
  options: Options & WebSocketLink.Options
): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  make(TextChannel.connector(WebSocketLink.open(options), true), withBinaryOutput(options))

/**
 * A client of the server that is registered as an environment at a rendezvous. It reconnects after a lost connection.
 *
 * @category constructors
 */
export const connectRelay = (options: Options & RelayLink.Options): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  make(TextChannel.connector(RelayLink.open(options), true), withBinaryOutput(options))

/**
 * The same, encrypted from end to end, so that the rendezvous cannot read or change anything: `noise://HOST/ENVIRONMENT`
 * or `noises://`. The executor must keep its key; another one ends the client. By default it reconnects for 45 seconds.
 *
 * @category constructors
 */
export const connectNoise = (options: Options & NoiseLink.Options): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  // Links pin the executor's key: those of one client alone.
  Effect.suspend(() =>
    make(
      TextChannel.connector(NoiseLink.open(options), true),
      withBinaryOutput({ recoverFor: "45 seconds", ...options })
    )
  )

/**
 * A client of the server at a URL: `ws://`, `wss://`, `unix://`, or behind a rendezvous `noise://`, `noises://`,
 * `relay://` and `relays://`.
 *
 * @category constructors
 */
export const connect = (options: Options & WebSocketLink.Options): Effect.Effect<Shape, ClientError, Scope.Scope> => {
  if (NoiseLink.isNoise(options.url)) return connectNoise(options)
  return RelayLink.isRelay(options.url) ? connectRelay(options) : connectWebSocket(options)
}

/**
 * A client on the stdin and stdout of a server that is started for it and ends with it.
 *
 * @category constructors
 */
export const connectStdio = (options: Options & StdioLink.Options): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  make(TextChannel.connector(StdioLink.open(options), false), options)

/**
 * A client of the server at the other end of two streams, one message per line. The caller owns the streams. It does
 * not reconnect.
 *
 * @category constructors
 */
export const connectStreams = (options: Options & StreamLink.Options): Effect.Effect<Shape, ClientError, Scope.Scope> =>
  make(TextChannel.connector(StreamLink.open(options), false), options)

/**
 * A client of the server in this process.
 *
 * @category constructors
 */
export const connectInProcess = (options: Options & InProcess.Options = {}) =>
  Effect.flatMap(InProcess.connector(options), (connector) => make(connector, options))

/**
 * Starts a new WebSocket server on a free port. It ends with the scope.
 *
 * @category constructors
 */
export const launchLocal = LocalServer.launchLocal

/**
 * The client of an application.
 *
 * @category tags
 */
export class ExecClient extends Context.Tag("exec-server/ExecClient")<ExecClient, Shape>() {}

/**
 * A client with any connector.
 *
 * @category layers
 */
export const layer = (connector: Connector, options: Options = {}): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, make(connector, options))

/**
 * A client of the server at an address. It reconnects after a lost connection.
 *
 * @category layers
 */
export const layerWebSocket = (options: Options & WebSocketLink.Options): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, connectWebSocket(options))

/**
 * A client of the server that is registered as an environment at a rendezvous. It reconnects after a lost connection.
 *
 * @category layers
 */
export const layerRelay = (options: Options & RelayLink.Options): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, connectRelay(options))

/**
 * The same, encrypted from end to end.
 *
 * @category layers
 */
export const layerNoise = (options: Options & NoiseLink.Options): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, connectNoise(options))

/**
 * A client on the stdin and stdout of a server that is started for it and ends with it.
 *
 * @category layers
 */
export const layerStdio = (options: Options & StdioLink.Options): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, connectStdio(options))

/**
 * A client of the server at the other end of two streams, which the caller owns.
 *
 * @category layers
 */
export const layerStreams = (options: Options & StreamLink.Options): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(ExecClient, connectStreams(options))

/**
 * A client of the server in this process: provide `ExecServer.layerSessions` and its services.
 *
 * @category layers
 */
export const layerInProcess = (options: Options & InProcess.Options = {}) =>
  Layer.scoped(ExecClient, connectInProcess(options))

/**
 * A client of a WebSocket server that is started for it, and ends with it.
 *
 * @category layers
 */
export const layerLocal = (
  options: Options & LocalServer.Options & Omit<WebSocketLink.Options, "url">
): Layer.Layer<ExecClient, ClientError> =>
  Layer.scoped(
    ExecClient,
    Effect.flatMap(LocalServer.launchLocal(options), ({ url }) => connectWebSocket({ ...options, url }))
  )
