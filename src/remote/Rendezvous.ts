/**
 * A rendezvous: executors register with it and wait, and clients connect to them through it. If it is `encrypted`, it
 * cannot read what they say.
 *
 * `POST /cloud/environment/ID/register` returns a one-time URL for the executor. Clients connect to
 * `/cloud/environment/ID/connect?role=harness`. An environment has one executor: a second one is refused while the
 * first one responds.
 *
 * @since 0.1.0
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { WebSocketServer } from "ws"
import * as Listener from "../transport/Listener.js"
import type * as Tls from "../transport/Tls.js"
import type { ListenError } from "../transport/Transport.js"
import type { KeyDesk, Registered, Registration, Vouched } from "./noise/KeyDesk.js"
import type { PublicKey } from "./noise/KeyPair.js"
import * as NoiseFrame from "./noise/NoiseFrame.js"
import * as RelaySocket from "./RelaySocket.js"
import { type Limits, RendezvousRouter } from "./RendezvousRouter.js"
import { Tickets } from "./Tickets.js"

/**
 * One token for all environments, or one per environment id (`EnvironmentToken.derive`).
 *
 * @category models
 */
export type Token = string | ((environmentId: string) => string)

/**
 * Options of a rendezvous.
 *
 * @category models
 */
export interface Options {
  readonly address: Listener.Address
  /** Serves TLS with this certificate. */
  readonly tls?: Tls.Files | undefined
  /** The bearer token of executors; undefined if none is needed. */
  readonly executorToken?: Token | undefined
  /** The token of clients, as a bearer token or as `token` in the query; undefined if none is needed. */
  readonly clientToken?: Token | undefined
  /**
   * Whether everything is encrypted from end to end. Executors and clients that do not are refused then; by default, those
   * that do are told that there is nothing.
   */
  readonly encrypted?: boolean | undefined
  /** The URL for executors, such as `wss://host`, behind a reverse proxy. */
  readonly publicUrl?: string | undefined
  readonly limits?: Partial<RendezvousLimits> | undefined
  /** What a gateway of a fleet adds; not with `encrypted`. */
  readonly extension?: Extension | undefined
}

/**
 * The answer of an extension to a registration: further members of the response, and what it wants to be told later.
 *
 * @category models
 */
export interface Admitted {
  readonly members: object
  readonly about: unknown
}

/**
 * What a gateway adds to a rendezvous: its own paths, and a say in who registers.
 *
 * @category models
 */
export interface Extension {
  /** Answers a request to a path that the rendezvous does not have; false if there is nothing either. */
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => boolean
  /** The same for an upgrade. Calls `accepted` when the connection is no longer pending. */
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer, accepted: () => void) => boolean
  /** Decides on a registration with the right token. The body is null if it is not JSON. */
  readonly onRegister: (environmentId: string, body: unknown, onVerdict: (verdict: Admitted | Refusal) => void) => void
  /** Whether a registration is one of an executor that is reached encrypted: its key is then kept. */
  readonly isEncrypted: (body: unknown) => boolean
  /** An executor has connected; `about` is from its registration. If it is encrypted, `vouch` lets a client reach it. */
  readonly onExecutor: (environmentId: string, about: unknown, router: RendezvousRouter, vouch?: Vouch) => void
}

/**
 * Vouches for a client to an encrypted executor; undefined if it is gone.
 *
 * @category models
 */
export type Vouch = (client: PublicKey) => Vouched | undefined

/**
 * The limits of a rendezvous.
 *
 * @category models
 */
export interface RendezvousLimits extends Limits {
  readonly maxEnvironments: number
  readonly maxMessageBytes: number
}

/**
 * A running rendezvous.
 *
 * @category tags
 */
export class Rendezvous extends Context.Tag("exec-server/Rendezvous")<
  Rendezvous,
  {
    /** `ws://IP:PORT`, or `wss://` with TLS. */
    readonly address: string
  }
>() {
  /** A rendezvous that listens while the layer is alive. */
  static readonly layer = (options: Options): Layer.Layer<Rendezvous, ListenError> =>
    Layer.scoped(Rendezvous, make(options))
}

const defaults: RendezvousLimits = {
  maxEnvironments: 1024,
  maxClientsPerEnvironment: 4096,
  maxStreamsPerClient: 16,
  maxMessageBytes: 67108864,
  // The longest message must fit, together with what a stream may have in flight.
  maxQueuedBytesPerClient: 67108864 + 16777216,
  maxQueuedBytesPerEnvironment: 268435456
}

/** The most unused registrations of one environment. */
const maxRegistrations = 8

/** The most unused tickets for clients of one environment. */
const maxClientTickets = 1024

/** The longest body of a request, in bytes. */
const maxBodyBytes = 16384

/** How long a connection may take to be accepted, in milliseconds. */
const acceptWithinMs = 10000

/** The deadline of the close handshakes at shutdown, in milliseconds. */
const goodbyeMs = 2000

const digest = (text: string) => createHash("sha256").update(text).digest()

/** Why the token is refused; undefined if it is accepted. Compares in constant time. */
const tokenFault = (
  token: Token | undefined,
  environmentId: string,
  given: string | undefined
): Refusal | undefined => {
  if (token === undefined) return undefined
  const expected = typeof token === "string" ? token : token(environmentId)
  if (given !== undefined && timingSafeEqual(digest(expected), digest(given))) return undefined
  return typeof token === "string" ? refusals.token : refusals.otherToken
}

const bearer = ({ headers }: IncomingMessage): string | undefined =>
  /^bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1]

const pathPattern = /^\/cloud\/environment\/([A-Za-z0-9_-]{1,256})\/(register|executor|connect|validate)$/

interface Target {
  readonly environmentId: string
  readonly action: string
  readonly query: URLSearchParams
}

const parseTarget = (request: IncomingMessage): Target | undefined => {
  const [path = "", query = ""] = (request.url ?? "").split("?", 2)
  const [, environmentId, action] = pathPattern.exec(path) ?? []
  if (environmentId === undefined || action === undefined) return undefined
  return { environmentId, action, query: new URLSearchParams(query) }
}

/**
 * A refusal, in the format of registries.
 *
 * @category models
 */
export interface Refusal {
  readonly status: number
  readonly code: string
  readonly message: string
}

const refusals = {
  origin: { status: 403, code: "forbidden_origin", message: "no web page may use the rendezvous" },
  token: { status: 401, code: "unauthorized", message: "the token is missing or wrong" },
  otherToken: {
    status: 401,
    code: "unauthorized",
    message: "the token is missing, or it is not that of this environment"
  },
  ticket: {
    status: 401,
    code: "unauthorized",
    message: "the registration is unknown, used or too old; register again"
  },
  clientTicket: {
    status: 401,
    code: "unauthorized",
    message: "the ticket is unknown, used or too old; ask for another one. Plain relays are refused here"
  },
  notEncrypted: {
    status: 404,
    code: "not_encrypted",
    message: "this rendezvous does not serve encrypted relays: start it with --encrypted, or use relay://"
  },
  body: { status: 413, code: "too_large", message: `the body is longer than ${maxBodyBytes} bytes` },
  path: { status: 404, code: "not_found", message: "there is nothing here" },
  method: { status: 405, code: "method_not_allowed", message: "requests are posted" },
  offline: { status: 409, code: "environment_offline", message: "no executor is connected for this environment" },
  taken: {
    status: 409,
    code: "environment_taken",
    message: "another executor of this environment is connected, and answers; end it first"
  },
  environments: { status: 503, code: "too_many_environments", message: "the limit of environments is reached" },
  clients: { status: 503, code: "too_many_clients", message: "the limit of clients of this environment is reached" }
} as const satisfies Record<string, Refusal>

/** Every answer closes its connection: only WebSockets stay open. */
const closing = { connection: "close" }

const bodyOf = ({ code, message }: Refusal) => JSON.stringify({ error: { code, message } })

const refuse = (response: ServerResponse, refusal: Refusal) =>
  response.writeHead(refusal.status, { ...closing, "content-type": "application/json" }).end(bodyOf(refusal))

const succeed = (response: ServerResponse, body: object) =>
  response.writeHead(200, { ...closing, "content-type": "application/json" }).end(JSON.stringify(body))

const invalid = (message: string): Refusal => ({ status: 400, code: "invalid_request", message })

/**
 * Reads the JSON of a request: null if it is none, undefined if it is too long.
 *
 * @category utilities
 */
export const readBody = (request: IncomingMessage, onBody: (body: unknown) => void): void => {
  const chunks: Array<Buffer> = []
  let size = 0
  request.on("data", (chunk: Buffer) => {
    size += chunk.length
    if (size <= maxBodyBytes) chunks.push(chunk)
  })
  request.on("end", () => {
    if (size > maxBodyBytes) return onBody(undefined)
    try {
      return onBody(JSON.parse(Buffer.concat(chunks).toString()))
    } catch {
      return onBody(null)
    }
  })
}

const refuseUpgrade = (socket: Duplex, refusal: Refusal) => {
  const body = bodyOf(refusal)
  const head =
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\nConnection: close\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`
  socket.end(head + body, () => socket.destroy())
}

const make = (options: Options) =>
  Effect.gen(function* () {
    const limits = { ...defaults, ...options.limits }
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    const routers = new Map<string, RendezvousRouter>()
    const { extension } = options
    const executorTickets = new Tickets<{ readonly registration: Registration | undefined; readonly about?: unknown }>(
      maxRegistrations
    )
    const clientTickets = new Tickets<true>(maxClientTickets)
    let desk: KeyDesk | undefined
    // Loaded if asked for: keys need ML-KEM-768.
    const deskOfKeys = Effect.map(
      Effect.promise(() => import("./noise/KeyDesk.js")),
      ({ KeyDesk }) => {
        desk ??= new KeyDesk()
        return desk
      }
    )
    if (options.encrypted === true) yield* deskOfKeys
    const acceptor = (maxPayload: number) =>
      new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload })
    const fromExecutors = acceptor(RelaySocket.maxPayload(limits.maxMessageBytes))
    // An encrypted executor drops its socket, which all clients share, at a longer frame: here its sender alone ends.
    const fromClients = options.encrypted === true ? acceptor(NoiseFrame.maxFrameBytes) : fromExecutors

    const routerOf = (environmentId: string): RendezvousRouter => {
      const known = routers.get(environmentId)
      if (known !== undefined) return known
      const warn = (message: string) => runFork(Effect.logWarning(`environment ${environmentId}: ${message}`))
      const router = new RendezvousRouter(limits, warn, () => {
        routers.delete(environmentId)
        desk?.forget(environmentId)
      })
      routers.set(environmentId, router)
      return router
    }

    const {
      server,
      url: address,
      pending
    } = yield* Listener.listen(options.address, {
      tls: options.tls,
      acceptWithinMs,
      onRequest: (request, response) => onRequest(request, response)
    })

    /** The base URL for an executor: the host of its request, unless `publicUrl` is set. */
    const baseFor = ({ headers }: IncomingMessage): string =>
      options.publicUrl?.replace(/\/+$/, "") ??
      (/^[A-Za-z0-9.:[\]-]+$/.test(headers.host ?? "") ? `${new URL(address).protocol}//${headers.host}` : address)

    const onRequest = (request: IncomingMessage, response: ServerResponse) => {
      if (extension?.onRequest(request, response) === true) return
      if (request.headers.origin !== undefined) return refuse(response, refusals.origin)
      if (request.url === "/readyz") return response.writeHead(request.method === "GET" ? 200 : 405, closing).end()
      const target = parseTarget(request)
      if (target === undefined || target.action === "executor") return refuse(response, refusals.path)
      if (target.action !== "register" && desk === undefined) return refuse(response, refusals.notEncrypted)
      if (request.method !== "POST") return refuse(response, refusals.method)
      const { environmentId, action } = target
      const token = action === "connect" ? options.clientToken : options.executorToken
      const wrongToken = tokenFault(token, environmentId, bearer(request))
      if (wrongToken !== undefined) return refuse(response, wrongToken)
      if (extension !== undefined && action === "register") {
        return registerAt(extension, request, response, environmentId)
      }
      const keys = desk
      if (keys === undefined) return register(request, response, environmentId, {})
      return readBody(request, (body) => {
        if (body === undefined) return refuse(response, refusals.body)
        if (action === "register") {
          return registerKey(response, keys, body, (key) => register(request, response, environmentId, key))
        }
        if (action === "connect") return admit(request, response, environmentId, keys, body)
        return succeed(response, { valid: keys.validate(environmentId, body) })
      })
    }

    const registerAt = (
      { isEncrypted, onRegister }: Extension,
      request: IncomingMessage,
      response: ServerResponse,
      environmentId: string
    ) =>
      readBody(request, (body) => {
        if (body === undefined) return refuse(response, refusals.body)
        const ask = (key: Partial<Registered> = {}) =>
          onRegister(environmentId, body, (verdict) => {
            if ("status" in verdict) return refuse(response, verdict)
            const { about, members } = verdict
            return register(request, response, environmentId, {
              ...key,
              about,
              members: { ...key.members, ...members }
            })
          })
        if (!isEncrypted(body)) return ask()
        return runFork(Effect.map(deskOfKeys, (keys) => void registerKey(response, keys, body, ask)))
      })

    /** Registers an executor, unless another one is connected and answers. */
    const register = (
      request: IncomingMessage,
      response: ServerResponse,
      environmentId: string,
      { registration, members, about }: Partial<Registered> & { readonly about?: unknown }
    ) =>
      whenVacant(environmentId, (isVacant) => {
        if (!isVacant) return refuse(response, refusals.taken)
        const ticket = executorTickets.issue(environmentId, { registration, about })
        const url = `${baseFor(request)}/cloud/environment/${environmentId}/executor?ticket=${ticket}`
        return succeed(response, { environment_id: environmentId, url, ...members })
      })

    /** Reads the key of an encrypted executor, and goes on with it; refuses what is none. */
    const registerKey = (
      response: ServerResponse,
      desk: KeyDesk,
      body: unknown,
      onKey: (key: Registered) => unknown
    ) => {
      const registered = desk.register(body)
      return Either.isLeft(registered) ? refuse(response, invalid(registered.left)) : onKey(registered.right)
    }

    /** Gives a client the key of the executor, and a ticket to reach it. */
    const admit = (
      request: IncomingMessage,
      response: ServerResponse,
      environmentId: string,
      desk: KeyDesk,
      body: unknown
    ) => {
      const unreachable = whyUnreachable(environmentId)
      if (unreachable !== undefined) return refuse(response, unreachable)
      const members = desk.authorize(environmentId, body)
      if (Either.isLeft(members)) return refuse(response, invalid(members.left))
      const ticket = clientTickets.issue(environmentId, true)
      const url = `${baseFor(request)}/cloud/environment/${environmentId}/connect?role=harness&ticket=${ticket}`
      return succeed(response, { environment_id: environmentId, url, ...members.right })
    }

    /** Why no client can reach the executor of an environment; undefined if one can. */
    const whyUnreachable = (environmentId: string): Refusal | undefined => {
      const router = routers.get(environmentId)
      if (!router?.isOnline) return refusals.offline
      return router.isFull ? refusals.clients : undefined
    }

    /** Why an upgrade is refused; undefined if it is not. Uses up the ticket of a client. */
    const fault = (request: IncomingMessage, { environmentId, action, query }: Target): Refusal | undefined => {
      if (request.headers.origin !== undefined) return refusals.origin
      if (action !== "connect") return refusals.path
      if (options.encrypted === true) {
        const isAdmitted = clientTickets.redeem(environmentId, query.get("ticket")) === true
        return isAdmitted ? whyUnreachable(environmentId) : refusals.clientTicket
      }
      const given = bearer(request) ?? query.get("token") ?? undefined
      return tokenFault(options.clientToken, environmentId, given) ?? whyUnreachable(environmentId)
    }

    /** Reports whether the environment has no responsive executor. */
    const whenVacant = (environmentId: string, onVerdict: (isVacant: boolean) => void): void => {
      const router = routers.get(environmentId)
      if (router?.isOnline !== true) onVerdict(true)
      // Once that executor is gone, another one may have registered.
      else router.probe((isAlive) => (isAlive ? onVerdict(false) : whenVacant(environmentId, onVerdict)))
    }

    server.on("upgrade", (request, socket, head) => {
      // Node.js has removed its own listener: without one, a connection reset would crash the rendezvous.
      socket.on("error", () => socket.destroy())
      if (extension?.onUpgrade(request, socket, head, () => pending.accepted(request.socket)) === true) return
      const target = parseTarget(request)
      if (target === undefined) return refuseUpgrade(socket, refusals.path)
      const { environmentId, action, query } = target
      const accept = (
        upgrades: WebSocketServer,
        add: (router: RendezvousRouter, relay: RelaySocket.RelaySocket) => void
      ) =>
        upgrades.handleUpgrade(request, socket, head, (ws) => {
          pending.accepted(request.socket)
          add(routerOf(environmentId), RelaySocket.make(ws, request.socket))
        })
      if (action !== "executor" || request.headers.origin !== undefined) {
        const refusal = fault(request, target)
        return refusal === undefined
          ? accept(fromClients, (router, relay) => router.addClient(relay))
          : refuseUpgrade(socket, refusal)
      }
      const ticket = executorTickets.redeem(environmentId, query.get("ticket"))
      if (ticket === undefined) return refuseUpgrade(socket, refusals.ticket)
      const isOneTooMany = () => !routers.has(environmentId) && routers.size >= limits.maxEnvironments
      return whenVacant(environmentId, (isVacant) => {
        if (!isVacant) refuseUpgrade(socket, refusals.taken)
        else if (isOneTooMany()) refuseUpgrade(socket, refusals.environments)
        else {
          accept(fromExecutors, (router, relay) => {
            router.addExecutor(relay)
            const { registration, about } = ticket
            if (registration !== undefined) desk?.connect(environmentId, registration)
            const vouch = registration && ((client: PublicKey) => desk?.vouch(environmentId, client))
            extension?.onExecutor(environmentId, about, router, vouch)
          })
        }
      })
    })

    const allGone = Effect.async<void>((resume) => {
      const connected = () => new Set([...fromExecutors.clients, ...fromClients.clients])
      const check = () => {
        if (connected().size === 0) resume(Effect.void)
      }
      for (const ws of connected()) ws.once("close", check)
      check()
    })
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        for (const router of routers.values()) router.close("the rendezvous is shutting down")
        return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(allGone), goodbyeMs))
      })
    )
    return { address }
  })

/**
 * A rendezvous that listens while the layer is alive.
 *
 * @category layers
 * @example
 * Rendezvous.layer({ address: { host: "127.0.0.1", port: 0 } })
 */
export const layer: (options: Options) => Layer.Layer<Rendezvous, ListenError> = Rendezvous.layer
