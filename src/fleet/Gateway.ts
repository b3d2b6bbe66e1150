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
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Package from "../internal/Package.js"
import { RelayLimits } from "../remote/RelayLimits.js"
import { type Admitted, type Extension, type Refusal, Rendezvous, type Token } from "../remote/Rendezvous.js"
import type { RendezvousRouter } from "../remote/RendezvousRouter.js"
import * as Grant from "../session/Grant.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import { Authenticator } from "../transport/Authenticator.js"
import * as BearerProtocol from "../transport/BearerProtocol.js"
import { FailedLogins } from "../transport/FailedLogins.js"
import type * as Listener from "../transport/Listener.js"
import * as LocalClient from "../transport/LocalClient.js"
import type * as Tls from "../transport/Tls.js"
import type { ListenError } from "../transport/Transport.js"
import * as DialBack from "./DialBack.js"
import {
  type DirectoryUnavailable,
  FleetDirectory,
  type HostRow,
  type HostTaken,
  type Registered
} from "./FleetDirectory.js"
import * as FleetLink from "./FleetLink.js"
import * as FleetMessages from "./FleetMessages.js"
import * as PlainDoor from "./PlainDoor.js"
import * as ReverseServer from "./ReverseServer.js"
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

/** The longest message of a relay stream, in bytes. */
const maxMessageBytes = 67_108_864

/** The most sessions of a host that does not say how many it takes. */
const plainCapacity = 64

/** The most labels that a client may ask for. */
const maxLabels = 16

/** How old the list of hosts may be to prove that there is no such host, in milliseconds. */
const freshMs = 3000

/** How long the session of a host that does not report is kept without its client, in milliseconds. */
const keepMs = 60_000

/** How often such a session is said to live, in milliseconds. */
const carryMs = 10_000

/** The time between two rounds of tidying, in milliseconds. */
const tidyMs = 5000

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

const taken: Refusal = {
  status: 409,
  code: "environment_taken",
  message: "another host has this id, and is heard; end it first, or wait until its lease ends"
}

const unavailable = (message: string): Refusal => ({ status: 503, code: "directory_unavailable", message })

/** What a registration says of a host, for its connection. */
interface Candidate {
  readonly host: FleetLink.HostIdentity
}

const isCandidate = (about: unknown): about is Candidate => isRecord(about) && isRecord(about["host"])

const decodeDescription = Schema.decodeUnknownOption(FleetMessages.Description)

const make = (options: Options) =>
  Effect.gen(function* () {
    const { leaseMs, waitMs = defaultWaitMs, allowLocalUsers = false, maxClients = defaultMaxClients } = options
    const directory = yield* FleetDirectory
    const limits = yield* RelayLimits
    const { authenticate, isOpen = false } = yield* Authenticator
    const failedLogins = new FailedLogins()
    const version = Package.version
    const gateway = `gw-${randomBytes(6).toString("hex")}`
    const ids = SessionIds.make(yield* directory.secret("session-ids"))
    const dialBack = new DialBack.DialBack()
    const streams = ReverseServer.make(maxMessageBytes)
    const fork = yield* FiberSet.makeRuntime<never>()

    /** The hosts that are connected here. */
    const links = new Map<string, FleetLink.FleetLink>()
    /** The directory's hosts by their numbers, and when they were read. */
    let known: ReadonlyMap<number, HostRow> = new Map()
    let readAt = Number.NEGATIVE_INFINITY
    let peers: ReadonlyArray<string> = []
    let isUp = true
    let isClosing = false
    const clients = new Set<Duplex>()
    /** The sessions carried here whose hosts do not report. */
    const carried = new Map<string, { readonly link: FleetLink.FleetLink; readonly inner: string }>()

    /** Runs a statement in the background of everything else. Tells once that the directory is away, and that it is back. */
    const asked = <A>(effect: Effect.Effect<A, DirectoryUnavailable>): Effect.Effect<A | undefined> =>
      effect.pipe(
        Effect.tap(() =>
          Effect.suspend(() => {
            if (isUp) return Effect.void
            isUp = true
            return Effect.logInfo("the directory answers again")
          })
        ),
        Effect.catchAll(({ message }) =>
          Effect.suspend(() => {
            if (!isUp) return Effect.succeed(undefined)
            isUp = false
            return Effect.as(
              Effect.logWarning(`${message}; what is connected goes on, and new sessions wait`),
              undefined
            )
          })
        )
      )

    const heard = () => new Map(Array.from(links).filter(([, link]) => link.isHeard()))

    // ---- hosts

    const identify = (
      id: string,
      incarnation: string,
      { no, epoch }: Registered,
      control: string | undefined
    ): FleetLink.HostIdentity => ({ id, incarnation, no, epoch, control })

    /** What the directory last said of an incarnation: it may connect again while the directory is away. */
    const remembered = (id: string, incarnation: string): Registered | undefined =>
      Array.from(known.values()).find((row) => row.id === id && row.incarnation === incarnation)

    const register = (environmentId: string, body: unknown): Effect.Effect<Admitted | Refusal> =>
      Effect.gen(function* () {
        const given = isRecord(body) ? body["fleet"] : undefined
        const described = decodeDescription(given)
        if (given !== undefined && described._tag === "None") {
          return { status: 400, code: "invalid_request", message: "the member `fleet` is invalid" }
        }
        const plain = { incarnation: `plain:${gateway}`, labels: [], capacity: plainCapacity, version: "" }
        const host = { id: environmentId, ...(described._tag === "None" ? plain : described.value) }
        const { incarnation } = host
        const registered = yield* directory.register(host, gateway).pipe(
          Effect.catchTag("DirectoryUnavailable", (error) => {
            const row = remembered(environmentId, incarnation)
            return row === undefined ? error : Effect.succeed(row)
          })
        )
        const control = described._tag === "None" ? undefined : randomBytes(16).toString("hex")
        // Its old connection may not be known to be dead yet.
        const old = links.get(environmentId)
        if (control !== undefined && old?.host.incarnation === incarnation) old.close("the host connects again")
        const welcome: FleetMessages.Welcome | undefined =
          control === undefined ? undefined : { gateway, epoch: registered.epoch, control, leaseMs, peers }
        const about: Candidate = { host: identify(environmentId, incarnation, registered, control) }
        return { members: welcome === undefined ? {} : { fleet: welcome }, about }
      }).pipe(
        Effect.catchTags({
          HostTaken: (_: HostTaken) => Effect.succeed(taken),
          DirectoryUnavailable: ({ message }) => Effect.succeed(unavailable(message))
        })
      )

    const connect = (host: FleetLink.HostIdentity, router: RendezvousRouter) => {
      const link = FleetLink.make(host, {
        router,
        limits,
        maxMessageBytes,
        dialBack,
        streams,
        peers: () => peers,
        onReport: ({ sessions, ended }) => fork(asked(directory.report(host.id, host.epoch, sessions, ended))),
        onLeave: () => fork(Effect.zipRight(asked(directory.leave(host.id, host.epoch)), readHosts)),
        warn: (message) => fork(Effect.logWarning(message)),
        onEnd: () => {
          if (links.get(host.id) === link) links.delete(host.id)
          fork(Effect.logInfo(`the host ${host.id} is not connected any more`))
        }
      })
      links.set(host.id, link)
      fork(
        Effect.zipRight(
          Effect.logInfo(`the host ${host.id} is connected, epoch ${host.epoch}`),
          // Those who wait may be placed on it.
          Effect.zipRight(renew, readHosts)
        )
      )
    }

    // ---- loops

    const ownUrl = (): string | undefined => options.ownUrl ?? advertised
    let advertised: string | undefined

    const renew = Effect.suspend(() => {
      const hosts = Array.from(heard().values(), ({ host: { id, epoch } }) => ({ id, epoch }))
      return Effect.map(asked(directory.renew({ id: gateway, url: ownUrl(), version }, hosts)), (stale = []) => {
        for (const id of stale) {
          const epoch = hosts.find((host) => host.id === id)?.epoch
          const link = links.get(id)
          if (link === undefined || link.host.epoch !== epoch) continue
          link.send({ method: "fleet/lost", params: { epoch } })
          // The message leaves before the connection ends.
          setTimeout(() => link.close("the host was declared lost"), 100)
        }
      })
    })

    const readHosts = Effect.flatMap(asked(directory.hosts), (rows) =>
      Effect.sync(() => {
        if (rows === undefined) return
        known = new Map(rows.map((row) => [row.no, row]))
        readAt = performance.now()
        for (const { id, drained, epoch } of rows) {
          const link = links.get(id)
          if (drained && link?.host.epoch === epoch) link.send({ method: "fleet/shutdown", params: {} })
        }
      })
    )

    const readPeers = Effect.map(asked(directory.gateways), (rows) => {
      if (rows !== undefined) peers = rows.flatMap(({ url }) => url ?? [])
    })

    const lose = Effect.flatMap(asked(directory.lose(gateway)), (lost = []) =>
      Effect.forEach(lost, (id) => Effect.logWarning(`the host ${id} is lost: nobody has heard it for a lease`), {
        discard: true
      })
    )

    const touch = (link: FleetLink.FleetLink, inner: string, state: "attached" | "detached") =>
      asked(directory.touch(link.host.id, link.host.epoch, inner, state, gateway, keepMs))

    const touchCarried = Effect.suspend(() =>
      Effect.forEach(Array.from(carried.values()), ({ link, inner }) => touch(link, inner, "attached"), {
        discard: true
      })
    )

    /** Runs every so often, until the gateway ends. */
    const every = (ms: number, effect: Effect.Effect<unknown>) =>
      Effect.forkScoped(
        Effect.forever(Effect.zipRight(Effect.catchAllCause(effect, Effect.logError), Effect.sleep(ms)))
      )

    // ---- clients

    const find = (place: SessionIds.Place): PlainDoor.Found => {
      const row = known.get(place.no)
      const link = Array.from(links.values()).find(({ host }) => host.no === place.no)
      const epoch = Math.max(row?.epoch ?? 0, link?.host.epoch ?? 0)
      if (epoch > place.epoch) return PlainDoor.Found.Lost({ reason: "its host was lost" })
      if (link?.isHeard() === true && link.host.epoch === place.epoch) return PlainDoor.Found.Here({ link })
      if (row === undefined && link === undefined && performance.now() - readAt < freshMs) {
        return PlainDoor.Found.Lost({ reason: "there is no such host any more" })
      }
      return PlainDoor.Found.NotYet({ reason: "the host of the session is not connected here; try again" })
    }

    const carry = (link: FleetLink.FleetLink, inner: string) => {
      if (link.host.control !== undefined) return () => {}
      const name = `${link.host.id} ${inner}`
      const entry = { link, inner }
      carried.set(name, entry)
      return () => {
        if (carried.get(name) !== entry) return
        carried.delete(name)
        fork(touch(link, inner, "detached"))
      }
    }

    const door: PlainDoor.Options = { gateway, ids, directory, heard, find, carry, waitMs, messageMs }

    /** Why a client without a token may not connect; undefined if it may. */
    const localRefusal = (request: IncomingMessage, owner: SocketOwner.SocketOwner | undefined) =>
      isOpen && !allowLocalUsers ? LocalClient.refusal(request, owner) : undefined

    /** Lets a client in. The credential ends with its connection. */
    const admit = (request: IncomingMessage, socket: Duplex, head: Buffer, accepted: () => void) =>
      Effect.gen(function* () {
        const authorization = BearerProtocol.authorizationOf(request.headers)
        const admitted = yield* Effect.either(authenticate(authorization))
        if (admitted._tag === "Left") {
          yield* Effect.logInfo(`refused a client: ${admitted.left.message}`)
          const isTurn = authorization === undefined || (yield* failedLogins.wait)
          return void refuse(socket, isTurn ? 401 : 429)
        }
        const owner = SocketOwner.of(request.socket)
        const grant = admitted.right.id === Grant.anonymous.id ? Grant.ofOwner(owner) : admitted.right
        const refusal = localRefusal(request, owner)
        if (refusal !== undefined) {
          yield* Effect.logDebug(`refused a client: ${refusal}`)
          return void refuse(socket, 403)
        }
        // A fleet has no sessions of others to watch.
        if (grant.scope !== undefined || grant.role === "viewer") return void refuse(socket, 403)
        const labels = labelsOf(request)
        const fault = upgradeFault(request)
        if (fault !== undefined) return void refuse(socket, fault)
        if (labels === undefined) return void refuse(socket, 400, "a label is invalid, or there are too many\n")
        if (clients.size >= maxClients || isClosing) return void refuse(socket, 503)
        clients.add(socket)
        socket.once("close", () => clients.delete(socket))
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

    // ---- what the port answers

    const onRequest: Extension["onRequest"] = (request, response) => {
      const path = pathOf(request)
      if (path !== "/healthz" && path !== "/readyz" && path !== "/livez") return false
      if (request.method !== "GET" && request.method !== "HEAD") return answer(response, 405, {}) !== undefined
      const hosts = heard().size
      const status = path === "/readyz" && isClosing ? 503 : 200
      answer(response, status, { gateway, version, directory: isUp, hosts, clients: clients.size })
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
      onRegister: (environmentId, body, onVerdict) => fork(Effect.map(register(environmentId, body), onVerdict)),
      onExecutor: (_, about, router) => {
        if (isCandidate(about)) connect(about.host, router)
      }
    }

    yield* readHosts
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
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        isClosing = true
        for (const socket of clients) socket.destroy()
        return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(asked(directory.close(gateway))), 1000))
      })
    )
    yield* renew
    yield* readPeers
    // A notification may be lost: a timer is beside it.
    yield* every(FleetMessages.beatMs, Effect.all([renew, lose, readHosts, readPeers], { discard: true }))
    yield* every(carryMs, touchCarried)
    yield* every(
      tidyMs,
      Effect.suspend(() => asked(directory.tidy))
    )
    let isReading = false
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        directory.onChange(() => {
          if (isReading) return
          isReading = true
          fork(
            Effect.zipRight(
              Effect.sleep(20),
              Effect.suspend(() => {
                isReading = false
                return readHosts
              })
            )
          )
        })
      ),
      (stop) => Effect.sync(stop)
    )
    return { address }
  })
