/**
 * WebSocket peers: who may connect, and what else the port answers.
 *
 * @since 0.1.0
 */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { WebSocket, WebSocketServer } from "ws"
import { Handover } from "../internal/Handover.js"
import * as Immediate from "../internal/Immediate.js"
import { timerMs } from "../internal/Timer.js"
import * as Access from "../session/Access.js"
import * as Grant from "../session/Grant.js"
import type { Peer } from "../session/Peer.js"
import { RecordingStore } from "../session/RecordingStore.js"
import { SessionLimits } from "../session/SessionLimits.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { Authenticator, Unauthorized } from "./Authenticator.js"
import * as BearerProtocol from "./BearerProtocol.js"
import { type Page as Console, ConsolePage } from "./ConsolePage.js"
import { FailedLogins } from "./FailedLogins.js"
import * as Listener from "./Listener.js"
import * as LocalClient from "./LocalClient.js"
import { McpRoute, type Route } from "./McpRoute.js"
import { MetricsPage, type Page } from "./MetricsPage.js"
import * as OwnOrigin from "./OwnOrigin.js"
import type * as Tls from "./Tls.js"
import { Traffic } from "./Traffic.js"
import { type ListenError, Transport, TransportFailed } from "./Transport.js"
import { TransportLimits } from "./TransportLimits.js"
import { UnfinishedMessages } from "./UnfinishedMessages.js"
import * as WebSocketPeer from "./WebSocketPeer.js"

/**
 * Options of the server.
 *
 * @category models
 */
export interface Options {
  /** Serves TLS with this certificate. */
  readonly tls?: Tls.Files | undefined
  /** Origins of web pages that may connect, such as `https://example.com`; none by default. */
  readonly allowOrigin?: ReadonlyArray<string> | undefined
  /**
   * Lets other users of this machine connect to a server without authentication. By default only the server's own user
   * can; root can connect only to a server of root.
   */
  readonly allowLocalUsers?: boolean | undefined
}

/** The subject of a connection, and the process at its other end. */
type Client = Pick<Peer, "grant" | "owner">

/** The HTTP status of an answer. */
type Status = 200 | 400 | 401 | 403 | 404 | 405 | 429 | 500 | 503

/** The most downloads of recordings at a time: each has a connection for as long as its client reads. */
const maxDownloads = 32

/** Every answer closes its connection: only WebSockets stay open. */
const headersOf = (status: Status, body: string, contentType = "text/plain"): Record<string, string | number> => ({
  connection: "close",
  "content-length": Buffer.byteLength(body),
  ...(body === "" ? {} : { "content-type": contentType }),
  ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
  ...(status === 405 ? { allow: "GET, HEAD" } : {}),
  ...(status === 429 ? { "retry-after": 1 } : {})
})

const answer = (response: ServerResponse, status: Status, body = "", contentType?: string) =>
  response.writeHead(status, headersOf(status, body, contentType)).end(body)

/** Answers an upgrade request with an error status. */
const refuse = (socket: Duplex, status: Status) => {
  const headers = Object.entries(headersOf(status, "")).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers.join("")}\r\n`, () => socket.destroy())
}

/** Without a listener, a connection reset would crash the server. The closure retains only the socket. */
const destroyOnError = (socket: Duplex) => socket.on("error", () => socket.destroy())

const isRead = ({ method }: IncomingMessage) => method === "GET" || method === "HEAD"

const pathOf = (request: IncomingMessage): string => (request.url ?? "").split("?", 1)[0] ?? ""

const isConsolePath = (path: string) => path === "/console" || path.startsWith("/console/")

/** The id in the path of a recording's download. */
const recordingOf = (path: string): string | undefined =>
  /^\/console\/recordings\/([0-9a-f]{32})\.cast$/.exec(path)?.[1]

/**
 * WebSocket peers. The address is bound while the layer is alive.
 *
 * @category layers
 */
export const layer = (
  address: Listener.Address,
  { tls, allowOrigin = [], allowLocalUsers = false }: Options = {}
): Layer.Layer<Transport, ListenError> =>
  Layer.scoped(
    Transport,
    Effect.gen(function* () {
      const { maxMessageBytes, maxConnections, pingIntervalMs, unfinishedMessageBytesTotal } = yield* TransportLimits
      const unfinished = new UnfinishedMessages(unfinishedMessageBytesTotal)
      const { handshakeTimeoutMs } = yield* SessionLimits
      const { authenticate, isOpen = false } = yield* Authenticator
      const page = yield* MetricsPage
      const console = yield* ConsolePage
      const mcp = yield* McpRoute
      const recordings = yield* RecordingStore
      const { serving } = yield* Handover
      const own = console === undefined ? undefined : OwnOrigin.make(tls !== undefined, console.publicUrl)
      const failedLogins = new FailedLogins()
      const downloads = Effect.unsafeMakeSemaphore(maxDownloads)
      const exchanges = Effect.unsafeMakeSemaphore(maxConnections)
      const traffic = new Traffic()
      const fork = yield* FiberSet.makeRuntime<never>()
      const origins = new Set(allowOrigin.map((origin) => origin.toLowerCase()))
      /** Accepts an open WebSocket; undefined unless `run` is active. */
      let accept: ((ws: WebSocket, request: IncomingMessage, client: Client) => void) | undefined

      /** Health checks need no authentication. */
      const health = (request: IncomingMessage): Status | undefined => {
        const path = pathOf(request)
        if (path !== "/readyz" && path !== "/livez") return undefined
        if (!isRead(request)) return 405
        return path === "/livez" || accept !== undefined ? 200 : 503
      }

      const nameOf = ({ socket }: IncomingMessage) =>
        "path" in address ? `unix://${address.path}` : `${socket.remoteAddress}:${socket.remotePort}`

      /** Why a local client may not connect to a server without authentication; undefined if it may. */
      const localRefusal = (
        request: IncomingMessage,
        owner: SocketOwner.SocketOwner | undefined
      ): string | undefined => (!isOpen || allowLocalUsers ? undefined : LocalClient.refusal(request, owner))
      // Other users must not be able to fill the log: only the first refusal is a warning.
      let hasWarned = false
      const logRefusal = (name: string, why: string) => {
        const log = hasWarned ? Effect.logDebug : Effect.logWarning
        hasWarned = true
        return log(`refused ${name}: ${why}`)
      }

      /** Admits a request with this grant. Without a token, it must come from the server's own user. */
      const allow = (request: IncomingMessage, grant: Grant.Grant): Effect.Effect<Client, Status> =>
        Immediate.make((): Effect.Effect<Client, Status> => {
          const owner = SocketOwner.of(request.socket)
          if (!isOpen || grant.id !== Grant.anonymous.id) return Exit.succeed({ owner, grant })
          // The client has left meanwhile: nobody is refused, and the log is not told.
          if (request.socket.destroyed) return Exit.fail(403 as const)
          const why = localRefusal(request, owner)
          if (why === undefined) return Exit.succeed({ owner, grant: Grant.ofOwner(owner) })
          return Effect.zipRight(logRefusal(nameOf(request), why), Effect.fail(403 as const))
        })

      const isAllowedOrigin = (origin: string) => origins.has(origin.toLowerCase())

      /** The answer to requests from the wrong web page, and for health; undefined for others. */
      const early = (request: IncomingMessage): Status | undefined => {
        const { origin } = request.headers
        // Web pages may not connect, unless their origin is allowed.
        if (origin !== undefined && !isAllowedOrigin(origin) && own?.isOrigin(request) !== true) return 403
        // Before the health checks: these answer web pages otherwise.
        const needsLocalHost = isOpen && !allowLocalUsers && own?.isPublicHost(request) !== true
        if (needsLocalHost && LocalClient.hostRefusal(request) !== undefined) return 403
        return health(request)
      }

      /**
       * Whether a request needs a token also if other clients do not: from the console, through the proxy that serves
       * it, or for a recording. Otherwise other pages of this machine's browsers, and whoever reaches the proxy, would
       * be clients.
       */
      const needsToken = (request: IncomingMessage): boolean => {
        const { origin } = request.headers
        return (
          own !== undefined &&
          (own.isPublicHost(request) ||
            isConsolePath(pathOf(request)) ||
            (origin !== undefined && !isAllowedOrigin(origin)))
        )
      }

      /** The status for who could not log in. Guesses wait. */
      const refused = (name: string, message: string, isGuess: boolean): Effect.Effect<never, Status> =>
        Effect.logInfo(`refused ${name}: ${message}`).pipe(
          Effect.zipRight(isGuess ? failedLogins.wait : Effect.succeed(true)),
          Effect.flatMap((isTurn) => Effect.fail<Status>(isTurn ? 401 : 429))
        )

      const tooLate = {
        duration: handshakeTimeoutMs,
        onTimeout: () => new Unauthorized({ message: "it could not be authenticated in time" })
      }

      /** Authenticates a request. Fails with the status of the answer. */
      const authenticated = (request: IncomingMessage): Effect.Effect<Client, Status> =>
        Immediate.make(() => {
          const authorization = BearerProtocol.authorizationOf(request.headers)
          const granted = Immediate.attempt(Immediate.make(() => authenticate(authorization)))
          // Most authenticators answer at once.
          return Immediate.hasEnded(granted) && Exit.isSuccess(granted) && isEnough(request, granted.value)
            ? allow(request, granted.value)
            : decided(request, authorization, granted)
        })

      /** Whether a request may be admitted with this grant. */
      const isEnough = (request: IncomingMessage, { id }: Grant.Grant) =>
        id !== Grant.anonymous.id || !needsToken(request)

      /** Waits for the answer of the authenticator, and admits a request or says why not. */
      const decided = (
        request: IncomingMessage,
        authorization: string | undefined,
        granted: Effect.Effect<Grant.Grant, Unauthorized>
      ): Effect.Effect<Client, Status> => {
        const name = nameOf(request)
        // A timeout takes three fibers.
        return (Exit.isExit(granted) ? granted : Effect.timeoutFail(granted, tooLate)).pipe(
          Effect.filterOrFail(
            (grant) => isEnough(request, grant),
            () => new Unauthorized({ message: "the web console needs a token" })
          ),
          Effect.catchAllCause((cause) =>
            Option.match(Cause.failureOption(cause), {
              onNone: () => Effect.zipRight(Effect.logError("authentication died", cause), Effect.fail(500 as const)),
              onSome: ({ message }) => refused(name, message, authorization !== undefined)
            })
          ),
          Effect.flatMap((grant) => allow(request, grant)),
          Effect.interruptible
        )
      }

      /** Fails with a status if a request is answered without regard to its path. */
      const verdict = (request: IncomingMessage): Effect.Effect<Client, Status> => {
        const status = early(request)
        return status === undefined ? authenticated(request) : Exit.fail(status)
      }

      /** Answers a request for the web console's files, which everybody may have. */
      const consoleFile = ({ folder }: Console, request: IncomingMessage, response: ServerResponse) =>
        Effect.tryPromise(async () => {
          const files = await import("./ConsoleFiles.js")
          if (own?.isHost(request) === true) return files.answer(pathOf(request), request, response, folder)
          const why = "open it at the server's address or localhost, or name this host with --public-url"
          return files.text(
            response,
            403,
            `the web console is not served at ${LocalClient.shownHost(request)}: ${why}\n`
          )
        }).pipe(
          Effect.catchAll(({ error }) =>
            Effect.zipRight(
              Effect.logError("the files of the web console cannot be read", error),
              Effect.sync(() => answer(response, 500))
            )
          )
        )

      const download = (recordingId: string, { grant }: Client, request: IncomingMessage, response: ServerResponse) => {
        const sent = Effect.suspend(() => {
          // It may take longer than a connection may otherwise take to be accepted.
          listener.pending.accepted(request.socket)
          return Effect.flatMap(
            Effect.promise(() => import("./RecordingDownload.js")),
            (module) => module.answer(recordings, recordingId, grant, request, response)
          )
        })
        return Effect.map(downloads.withPermitsIfAvailable(1)(sent), (found) => {
          if (found._tag === "None") answer(response, 429)
        })
      }

      const exchange = (route: Route, client: Client, request: IncomingMessage, response: ServerResponse) => {
        const refusal = Access.refusal(client.grant, "/mcp", "use")
        if (refusal !== undefined) return Effect.sync(() => answer(response, 403, `${refusal.message}\n`))
        if (accept === undefined) return Effect.sync(() => answer(response, 503))
        const served = Effect.suspend(() => {
          listener.pending.accepted(request.socket)
          traffic.add(request.socket)
          return Effect.flatMap(
            Effect.promise(() => import("./WebExchange.js")),
            ({ serve }) =>
              serve(route, client, request, response, {
                maxMessageBytes,
                idleMs: timerMs(handshakeTimeoutMs),
                unfinished
              })
          )
        })
        return Effect.map(exchanges.withPermitsIfAvailable(1)(served), (found) => {
          if (found._tag === "None") answer(response, 503)
        })
      }

      const metrics = ({ contentType, render }: Page, request: IncomingMessage, response: ServerResponse) => {
        if (!isRead(request)) return answer(response, 405)
        traffic.countAll()
        return fork(Effect.map(render, (text) => answer(response, 200, text, contentType)))
      }

      const onRequest = (request: IncomingMessage, response: ServerResponse) => {
        const path = pathOf(request)
        const ofConsole = isConsolePath(path) ? console : undefined
        const recordingId = ofConsole === undefined ? undefined : recordingOf(path)
        const onRefused = (status: Status) => Effect.sync(() => answer(response, status))
        const onAllowed = (client: Client): Effect.Effect<unknown> => {
          if (recordingId !== undefined) return download(recordingId, client, request, response)
          if (mcp !== undefined && path === "/mcp") {
            return exchange(mcp, client, request, response)
          }
          return Effect.sync(() => {
            // The metrics cover all sessions.
            if (client.grant.scope !== undefined) answer(response, 403)
            else if (page !== undefined && path === "/metrics") metrics(page, request, response)
            else if (path === "/" && request.method === "GET") {
              answer(response, 400, "Connection header did not include 'upgrade'")
            } else answer(response, 404)
          })
        }
        const status = early(request) ?? (ofConsole !== undefined && !isRead(request) ? 405 : undefined)
        if (status !== undefined) return answer(response, status)
        return fork(
          ofConsole !== undefined && recordingId === undefined
            ? consoleFile(ofConsole, request, response)
            : Effect.matchEffect(authenticated(request), { onFailure: onRefused, onSuccess: onAllowed })
        )
      }

      const listener = yield* Listener.listen(address, { tls, acceptWithinMs: handshakeTimeoutMs, onRequest })
      const upgrades = new WebSocketServer({
        noServer: true,
        perMessageDeflate: false,
        maxPayload: maxMessageBytes,
        handleProtocols: BearerProtocol.select,
        WebSocket: WebSocketPeer.ServerSocket
      })

      const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer, client: Client) => {
        if (pathOf(request) !== "/") return refuse(socket, 404)
        if (accept === undefined || upgrades.clients.size >= maxConnections) return refuse(socket, 503)
        const take = accept
        upgrades.handleUpgrade(request, socket, head, (ws) => {
          listener.pending.accepted(request.socket)
          traffic.add(request.socket)
          take(ws, request, client)
        })
      }

      listener.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        destroyOnError(socket)
        const onRefused = (status: Status) => refuse(socket, status)
        const onAllowed = (client: Client) => upgrade(request, socket, head, client)
        // Without a fiber, if nothing has to be waited for.
        const upgraded = Immediate.attempt(Immediate.map(verdict(request), onAllowed))
        if (Immediate.hasEnded(upgraded) && Exit.isSuccess(upgraded)) return
        fork(Effect.match(upgraded, { onFailure: onRefused, onSuccess: () => {} }))
      })

      const run = <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) =>
        Effect.scoped(
          Effect.gen(function* () {
            const fork = yield* FiberSet.makeRuntime<R>()
            accept = (ws, request, client) => {
              // The close handshake may outlast the serving fiber. Shutdown waits for it.
              const gone = Effect.async<void>((resume) => {
                if (ws.readyState === WebSocket.CLOSED) resume(Effect.void)
                else ws.once("close", () => resume(Effect.void))
              })
              const peer = WebSocketPeer.make(ws, request.socket, {
                ...client,
                name: nameOf(request),
                pingIntervalMs: timerMs(pingIntervalMs),
                unfinished
              })
              fork(Effect.ensuring(serve(peer), gone))
            }
            yield* Effect.addFinalizer(() =>
              Effect.sync(() => {
                accept = undefined
              })
            )
            yield* Effect.mapError(listener.open, ({ message }) => new TransportFailed({ message }))
            serving()
            return yield* Effect.never
          })
        )
      return { address: listener.url, run }
    })
  )
