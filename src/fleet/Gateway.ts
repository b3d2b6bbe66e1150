/**
 * A gateway of a fleet: hosts connect to it, and clients find them behind one address. All that it needs to know is in the
 * directory or at the hosts, so that it can die at any time, and others serve its clients.
 *
 * It is a rendezvous with a directory, and with a door for clients that know nothing of either.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Package from "../internal/Package.js"
import { type Extension, Rendezvous, readBody, type Token } from "../remote/Rendezvous.js"
import * as Grant from "../session/Grant.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { Authenticator } from "../transport/Authenticator.js"
import * as BearerProtocol from "../transport/BearerProtocol.js"
import { FailedLogins } from "../transport/FailedLogins.js"
import type * as Listener from "../transport/Listener.js"
import * as LocalClient from "../transport/LocalClient.js"
import { MetricsPage } from "../transport/MetricsPage.js"
import type * as Tls from "../transport/Tls.js"
import type { ListenError } from "../transport/Transport.js"
import * as DialBack from "./DialBack.js"
import type { DirectoryUnavailable } from "./DirectoryApi.js"
import { FleetDirectory } from "./FleetDirectory.js"
import * as FleetMetrics from "./FleetMetrics.js"
import * as GatewayHosts from "./GatewayHosts.js"
import * as Operations from "./Operations.js"
import * as PlainDoor from "./PlainDoor.js"
import * as SessionIds from "./SessionIds.js"
import { acceptOf } from "./Upstream.js"

/** Options of a gateway. */
export interface Options {
  readonly address: Listener.Address
  readonly tls?: Tls.Files | undefined
  /** The bearer token of hosts, or that of each; undefined if none is needed. */
  readonly hostToken?: Token | undefined
  /** Where hosts reach this gateway, and no other one: `ws://HOST:PORT`. Its address if that is not of all interfaces. */
  readonly ownUrl?: string | undefined
  /** The lease of hosts, in milliseconds: that of the directory. */
  readonly leaseMs: number
  /** How long a client waits for a place, in milliseconds; 8 seconds. */
  readonly waitMs?: number | undefined
  /**
   * How long it serves the clients that it has when it ends, in milliseconds, and takes no others; 0 by default. It ends
   * earlier if they have left.
   */
  readonly graceMs?: number | undefined
  /** Lets other users of this machine connect to a gateway without authentication. */
  readonly allowLocalUsers?: boolean | undefined
  /** The most clients; 4096. */
  readonly maxClients?: number | undefined
}

/** A running gateway. */
export class Gateway extends Context.Tag("exec-server/Gateway")<
  Gateway,
  {
    /** The address for clients, hosts and health checks. */
    readonly address: string
  }
>() {
  /** A gateway that serves while the layer is alive. */
  static readonly layer = (
    options: Options
  ): Layer.Layer<Gateway, ListenError | DirectoryUnavailable, FleetDirectory> => Layer.scoped(Gateway, make(options))
}

/** How long a client waits by default: codex gives `initialize` ten seconds. */
const defaultWaitMs = 8000

const defaultMaxClients = 4096

/** How long a client may take to send `initialize`, in milliseconds. */
const messageMs = 10_000

/** How long the last bytes to clients may take when the gateway ends, in milliseconds. */
const lastBytesMs = 500

/** The most labels that a client may ask for. */
const maxLabels = 16

const label = /^[A-Za-z0-9_.:/=-]{1,63}$/

const pathOf = ({ url = "" }: IncomingMessage) => url.split("?", 1)[0] ?? ""

const queryOf = ({ url = "" }: IncomingMessage) => new URLSearchParams(url.split("?", 2)[1] ?? "")

/** The labels that a client asks for: `?label=gpu&label=eu`, or `x-exec-server-label: gpu, eu`. Undefined if invalid. */
const labelsOf = (request: IncomingMessage): ReadonlyArray<string> | undefined => {
  const header = [request.headers["x-exec-server-label"] ?? []].flat()
  const given = [...queryOf(request).getAll("label"), ...header]
  const labels = Array.from(new Set(given.flatMap((text) => text.split(",")).map((text) => text.trim())))
  return labels.length <= maxLabels && labels.every((text) => label.test(text)) ? labels : undefined
}

const refuse = (socket: Duplex, status: number, message = "") =>
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${Buffer.byteLength(message)}\r\n${status === 401 ? "WWW-Authenticate: Bearer\r\n" : ""}\r\n${message}`,
    () => socket.destroy()
  )

const answer = (response: ServerResponse, status: number, body: unknown) =>
  response
    .writeHead(status, { connection: "close", "content-type": "application/json" })
    .end(`${JSON.stringify(body)}\n`)

/** Why a request is no WebSocket upgrade; undefined if it is one. */
const upgradeFault = ({ method, headers }: IncomingMessage): number | undefined => {
  if (method !== "GET" || headers.upgrade?.toLowerCase() !== "websocket") return 400
  if (!/^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? "")) return 400
  return headers["sec-websocket-version"] === "13" ? undefined : 426
}

/** The paths of operators. */
const operations = "/fleet/"

/** The names of a path; undefined if it is not encoded as one. */
const decodePath = (path: string): ReadonlyArray<string> | undefined => {
  try {
    return path.split("/").map(decodeURIComponent)
  } catch {
    return undefined
  }
}

/** Whether a web page that was loaded from this address sends the request. */
const isSameOrigin = ({ headers: { origin = "", host } }: IncomingMessage) =>
  URL.canParse(origin) && new URL(origin).host === host

/** Accepts a WebSocket on its socket. */
const acceptUpgrade = (request: IncomingMessage, socket: Duplex) => {
  const offered = request.headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim()) ?? []
  const selected = BearerProtocol.select(new Set(offered))
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${acceptOf(request.headers["sec-websocket-key"] ?? "")}\r\n` +
      `${selected === false ? "" : `Sec-WebSocket-Protocol: ${selected}\r\n`}\r\n`
  )
}

const make = (options: Options) =>
  Effect.gen(function* () {
    const { leaseMs, waitMs = defaultWaitMs, graceMs = 0 } = options
    const { allowLocalUsers = false, maxClients = defaultMaxClients } = options
    const directory = yield* FleetDirectory
    const { authenticate, isOpen = false } = yield* Authenticator
    const metrics = yield* MetricsPage
    const failedLogins = new FailedLogins()
    const version = Package.version
    const gateway = `gw-${randomBytes(6).toString("hex")}`
    const ids = SessionIds.make(yield* directory.secret("session-ids"))
    const fork = yield* FiberSet.makeRuntime<never>()
    let isClosing = false
    const clients = new Set<Duplex>()
    let onLastLeft = () => {}
    let advertised: string | undefined
    const hosts = yield* GatewayHosts.make(gateway, leaseMs, () => options.ownUrl ?? advertised)
    const { dialBack, heard, find, carry } = hosts

    // ---- clients

    const door: PlainDoor.Options = {
      gateway,
      ids,
      directory,
      turns: PlainDoor.makeTurns(),
      heard,
      find,
      carry,
      waitMs,
      messageMs
    }

    /** Why a client without a token may not connect; undefined if it may. */
    const localRefusal = (request: IncomingMessage, owner: SocketOwner.SocketOwner | undefined) =>
      isOpen && !allowLocalUsers ? LocalClient.refusal(request, owner) : undefined

    /** Who sends a request; the status and the reason of the refusal otherwise. */
    const identify = (request: IncomingMessage) =>
      Effect.gen(function* () {
        const authorization = BearerProtocol.authorizationOf(request.headers)
        const admitted = yield* Effect.either(authenticate(authorization))
        if (Either.isLeft(admitted)) {
          yield* Effect.logInfo(`refused a client: ${admitted.left.message}`)
          const isTurn = authorization === undefined || (yield* failedLogins.wait)
          return Either.left(isTurn ? 401 : 429)
        }
        const owner = SocketOwner.of(request.socket)
        const grant = admitted.right.id === Grant.anonymous.id ? Grant.ofOwner(owner) : admitted.right
        const refusal = localRefusal(request, owner)
        if (refusal !== undefined) {
          yield* Effect.logDebug(`refused a client: ${refusal}`)
          return Either.left(403)
        }
        // Without authentication, whoever runs the gateway may do everything, and only from this machine.
        const isOwner = isOpen && owner !== undefined && LocalClient.refusal(request, owner) === undefined
        return Either.right({ grant, role: isOwner ? ("operator" as const) : grant.role })
      })

    /** Lets a client in. The credential ends with its connection. */
    const admit = (request: IncomingMessage, socket: Duplex, head: Buffer, accepted: () => void) =>
      Effect.gen(function* () {
        const identified = yield* identify(request)
        if (Either.isLeft(identified)) return void refuse(socket, identified.left)
        const { grant } = identified.right
        // A fleet has no sessions of others to watch.
        if (grant.scope !== undefined || grant.role === "viewer") return void refuse(socket, 403)
        const labels = labelsOf(request)
        const fault = upgradeFault(request)
        if (fault !== undefined) return void refuse(socket, fault)
        if (labels === undefined) return void refuse(socket, 400, "a label is invalid, or there are too many\n")
        if (clients.size >= maxClients || isClosing) return void refuse(socket, 503)
        clients.add(socket)
        socket.once("close", () => {
          clients.delete(socket)
          if (clients.size === 0) onLastLeft()
        })
        accepted()
        const { expiresAtMs } = grant
        if (expiresAtMs !== undefined) {
          const expiry = fork(
            Effect.zipRight(
              Grant.expired(expiresAtMs),
              Effect.sync(() => socket.destroy())
            )
          )
          socket.once("close", () => expiry.unsafeInterruptAsFork(expiry.id()))
        }
        acceptUpgrade(request, socket)
        yield* PlainDoor.serve(door, socket, head, { subject: grant.id, labels })
      }).pipe(
        Effect.catchAllCause((cause) =>
          Effect.zipRight(
            Effect.logError("the connection of a client failed", cause),
            Effect.sync(() => socket.destroy())
          )
        )
      )

    // ---- operators

    const operation = (request: IncomingMessage, path: string, body: unknown) =>
      Effect.gen(function* () {
        const identified = yield* identify(request)
        if (Either.isLeft(identified)) return { status: identified.left, body: { error: "not authorized" } }
        const { grant, role } = identified.right
        const { method = "" } = request
        const isAllowed = role === "operator" || (role === "viewer" && !Operations.isChange({ method }))
        if (!isAllowed || grant.scope !== undefined) {
          const needed = Operations.isChange({ method }) ? "operator" : "viewer or operator"
          return { status: 403, body: { error: `this takes the token of a fleet's ${needed}` } }
        }
        const names = decodePath(path.slice(operations.length))
        if (names === undefined) return { status: 400, body: { error: "the path is not valid" } }
        const caller = { subject: grant.id, role }
        const asked = { method, path: names, query: queryOf(request), body, caller }
        const answered = yield* Operations.handle({ directory, heard }, asked)
        if (Operations.isChange({ method })) {
          yield* Effect.logInfo(`operator's ${names.join(" ")}: ${answered.status}`).pipe(
            Effect.annotateLogs({ subject: grant.id })
          )
        }
        return answered
      })

    const page = (request: IncomingMessage, response: ServerResponse) =>
      Effect.gen(function* () {
        const identified = yield* identify(request)
        if (Either.isLeft(identified)) return void answer(response, identified.left, { error: "not authorized" })
        if (metrics === undefined) return void answer(response, 404, {})
        const counts = yield* hosts.asked(directory.counts)
        FleetMetrics.observe({ rows: hosts.rows(), counts, heard: heard().size, isUp: hosts.isUp() })
        const text = yield* metrics.render
        response.writeHead(200, { connection: "close", "content-type": metrics.contentType }).end(text)
      })

    /** Answers with a file of the page, which everybody may have: what it shows takes a token. */
    const consoleFile = (path: string, request: IncomingMessage, response: ServerResponse) =>
      Effect.tryPromise(async () => {
        // Loaded by whoever opens the page.
        const files = await import("../transport/ConsoleFiles.js")
        if (LocalClient.hostRefusal(request) === undefined) {
          return files.answer(path, request, response, undefined, "fleet.html")
        }
        const why = "open it at an address, or as localhost"
        return files.text(response, 403, `the page is not served at ${LocalClient.shownHost(request)}: ${why}\n`)
      }).pipe(
        Effect.catchAll(({ error }) =>
          Effect.zipRight(
            Effect.logError("the files of the page cannot be read", error),
            Effect.sync(() => answer(response, 500, {}))
          )
        )
      )

    // ---- what the port answers

    /** Refuses what a web page of another origin, or one that was rebound to this machine, sends. */
    const isForeign = (request: IncomingMessage) =>
      (request.headers.origin !== undefined && !isSameOrigin(request)) || LocalClient.hostRefusal(request) !== undefined

    const onRequest: Extension["onRequest"] = (request, response) => {
      const path = pathOf(request)
      const isHealth = path === "/healthz" || path === "/readyz" || path === "/livez"
      const isOperation = path.startsWith(operations)
      const isConsole = path === "/console" || path.startsWith("/console/")
      if (!isHealth && !isOperation && !isConsole && path !== "/metrics") return false
      if (isOperation) {
        if (isForeign(request)) answer(response, 403, { error: "web pages of other addresses may not ask" })
        else {
          readBody(request, (body) => {
            if (body === undefined) return answer(response, 413, { error: "the body is too long" })
            return fork(
              Effect.map(operation(request, path, body), ({ status, body }) => void answer(response, status, body))
            )
          })
        }
        return true
      }
      if (request.method !== "GET" && request.method !== "HEAD") return answer(response, 405, {}) !== undefined
      if (isConsole) {
        fork(consoleFile(path, request, response))
        return true
      }
      if (path === "/metrics") {
        if (isForeign(request)) answer(response, 403, {})
        else fork(page(request, response))
        return true
      }
      const status = path === "/readyz" && isClosing ? 503 : 200
      answer(response, status, {
        gateway,
        version,
        directory: hosts.isUp(),
        hosts: heard().size,
        clients: clients.size
      })
      return true
    }

    const onUpgrade: Extension["onUpgrade"] = (request, socket, head, accepted) => {
      const path = pathOf(request)
      if (path !== "/" && path !== DialBack.path) return false
      // Web pages may not connect.
      if (request.headers.origin !== undefined) refuse(socket, 403)
      else if (path === "/") {
        tune(request.socket)
        fork(admit(request, socket, head, accepted))
      } else {
        const isReverse = request.headers.upgrade?.toLowerCase() === DialBack.protocol && head.length === 0
        if (!isReverse || !dialBack.accept(queryOf(request).get("ticket") ?? "", socket)) refuse(socket, 401)
        else {
          tune(request.socket)
          accepted()
        }
      }
      return true
    }

    const tune = (carrier: Socket) => {
      carrier.setNoDelay(true)
      carrier.setKeepAlive(true, 30_000)
    }

    const extension: Extension = {
      onRequest,
      onUpgrade,
      onRegister: (environmentId, body, onVerdict) => fork(Effect.map(hosts.register(environmentId, body), onVerdict)),
      isEncrypted: hosts.isEncrypted,
      onExecutor: (_, about, router, vouch) => hosts.connectExecutor(about, router, vouch)
    }

    const rendezvous = yield* Layer.build(
      Rendezvous.layer({
        address: options.address,
        tls: options.tls,
        executorToken: options.hostToken,
        // Clients come through the door: relay clients would go past quotas and places.
        clientToken: randomBytes(32).toString("base64url"),
        publicUrl: options.ownUrl,
        extension
      })
    )
    const { address } = Context.get(rendezvous, Rendezvous)
    const { hostname } = new URL(address)
    advertised = hostname === "0.0.0.0" || hostname === "[::]" ? undefined : address
    const allLeft = Effect.async<void>((resume) => {
      onLastLeft = () => resume(Effect.void)
      if (clients.size === 0) onLastLeft()
    })
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        isClosing = true
        if (graceMs > 0 && clients.size > 0) {
          yield* Effect.logInfo(`no more clients are taken; ${clients.size} are served for ${graceMs / 1000} s at most`)
          yield* Effect.timeoutOption(Effect.interruptible(allLeft), graceMs)
        }
        // What was written last still leaves. They resume at another gateway.
        for (const socket of clients) socket.end()
        yield* Effect.timeoutOption(Effect.interruptible(allLeft), lastBytesMs)
        for (const socket of clients) socket.destroy()
        yield* Effect.timeoutOption(Effect.interruptible(hosts.asked(directory.close(gateway))), 1000)
      })
    )
    yield* hosts.start
    return { address }
  })
