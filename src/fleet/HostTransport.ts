/**
 * Peers from a fleet: the host connects to every gateway, and opens a connection for each session that one of them places
 * on it. It never sees the directory, and is the truth about its sessions.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import { connect as connectTcp, isIP, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { withoutBrackets } from "../internal/Loopback.js"
import * as Package from "../internal/Package.js"
import { timerMs } from "../internal/Timer.js"
import { redactUrl } from "../protocol/Redact.js"
import * as Dialer from "../remote/Dialer.js"
import * as Registration from "../remote/Registration.js"
import { EndpointError } from "../remote/RelayEndpoint.js"
import { RelayLimits } from "../remote/RelayLimits.js"
import * as RelayMux from "../remote/RelayMux.js"
import * as RelaySocket from "../remote/RelaySocket.js"
import { RemoteAuth } from "../remote/RemoteAuth.js"
import { FramePool } from "../session/FramePool.js"
import type { Peer } from "../session/Peer.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { Transport, type TransportFailed } from "../transport/Transport.js"
import { TransportLimits } from "../transport/TransportLimits.js"
import { UnfinishedMessages } from "../transport/UnfinishedMessages.js"
import * as WebSocketPeer from "../transport/WebSocketPeer.js"
import * as DialBack from "./DialBack.js"
import * as FleetMessages from "./FleetMessages.js"
import * as HostLease from "./HostLease.js"
import * as HostSessions from "./HostSessions.js"
import * as ReverseServer from "./ReverseServer.js"

/** Options of a host. */
export interface Options {
  /** The id of the host, and the address of the fleet. */
  readonly target: Registration.Target
  readonly labels: ReadonlyArray<string>
  /** The most sessions. */
  readonly capacity: number
  /** Called with the host's id when it is registered with a gateway. */
  readonly onRegistered: (environmentId: string) => Effect.Effect<void>
}

/** The lease until a gateway has said another one, in milliseconds. */
const firstLeaseMs = 15_000

/** The waits between attempts to connect to a gateway. */
const waits: Dialer.Waits = { ...Dialer.relayWaits, longest: "2 seconds" }

/** The time between two reports if nothing has happened, and the delay of one when something has, in milliseconds. */
const reporting = { everyMs: 5000, delayMs: 50 } as const

/** How often a gateway's silence is looked at, in milliseconds. */
const lookMs = 250

/** How long a gateway is dialled that no other one knows, in milliseconds. */
const forgetMs = 600_000

/** How long opening a connection to a gateway may take, in milliseconds. */
const dialMs = 4000

/** A gateway that this host is connected to. */
interface Link {
  /** Its address. */
  readonly base: string
  readonly welcome: FleetMessages.Welcome
  heardAt: number
  /** The addresses of all gateways, as this one has last said. */
  peers: ReadonlyArray<string>
  readonly send: (message: FleetMessages.ToGateway) => void
  readonly close: (reason: string) => void
  /** The connections that it was given. */
  readonly sockets: Set<Socket>
}

/** What keeps a gateway connected. */
interface GatewayDialer {
  readonly fiber: Fiber.RuntimeFiber<void, TransportFailed>
  /** When the gateway was last a peer of one that is connected. */
  namedAt: number
}

const decodeWelcome = Schema.decodeUnknownOption(FleetMessages.Welcome)

/** The address of a gateway as it registers hosts: with `http`, and without a slash at the end. */
const httpOf = (url: string): string => url.replace(/^ws/, "http").replace(/\/+$/, "")

/** The base of the URL that a gateway gives to its executors: its own address. */
const baseOf = (url: string): string => httpOf(url).replace(/\/cloud\/environment\/.*$/s, "")

const notAFleet = new EndpointError({
  message: "the registry is no gateway of a fleet: --labels and --capacity need `exec-server gateway` there",
  retryable: false
})

/** Whether another host holds the id. */
const isTaken = ({ status }: EndpointError) => status === 409

/** Opens a TCP or TLS connection to a gateway, and asks it to speak there. */
const dialBack = (base: URL, ticket: string, taken: (socket: Socket) => void) =>
  Effect.async<void, string>((resume) => {
    const isSecure = base.protocol === "https:"
    const host = withoutBrackets(base.hostname)
    const port = Number(base.port || (isSecure ? 443 : 80))
    // An address is no name to ask for: RFC 6066, section 3.
    const named = isIP(host) === 0 ? { servername: host } : {}
    const socket = isSecure ? connectTls({ host, port, ...named }) : connectTcp({ host, port })
    const fail = (why: string) => {
      socket.destroy()
      resume(Effect.fail(why))
    }
    socket.setNoDelay(true)
    socket.on("error", (error) => fail(error.message))
    socket.once("close", () => fail("the connection was closed"))
    socket.write(
      `GET ${base.pathname.replace(/\/$/, "")}${DialBack.path}?ticket=${ticket} HTTP/1.1\r\nHost: ${base.host}\r\n` +
        `Connection: Upgrade\r\nUpgrade: ${DialBack.protocol}\r\n\r\n`
    )
    let bytes = Buffer.alloc(0)
    const onData = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      const end = bytes.indexOf("\r\n\r\n")
      if (end < 0) return bytes.length > 16_384 ? fail("the answer is too long") : undefined
      socket.off("data", onData)
      const status = /^HTTP\/1\.1 (\d+)/.exec(bytes.toString("latin1"))?.[1]
      if (status !== "101") return fail(`HTTP error: ${status}`)
      socket.pause()
      socket.unshift(bytes.subarray(end + 4))
      taken(socket)
      return resume(Effect.void)
    }
    socket.on("data", onData)
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutFail({ duration: dialMs, onTimeout: () => "no answer in time" }))

/**
 * Peers from a fleet. Building the layer registers the host, and fails if that is refused for good. While another host
 * with the same id is heard, it waits.
 */
export const layer = (options: Options): Layer.Layer<Transport, EndpointError, RemoteAuth | SessionRegistry> =>
  Layer.effect(
    Transport,
    Effect.gen(function* () {
      const { target, labels, capacity, onRegistered } = options
      const { environmentId } = target
      const auth = yield* RemoteAuth
      const registry = yield* SessionRegistry
      const limits = yield* RelayLimits
      const { maxMessageBytes, pingIntervalMs, unfinishedMessageBytesTotal } = yield* TransportLimits
      const unfinished = new UnfinishedMessages(unfinishedMessageBytesTotal)
      const reverse = ReverseServer.make(maxMessageBytes)
      const frames = new FramePool()
      const lease = HostLease.make(firstLeaseMs)
      let incarnation = randomUUID()
      let epoch: number | undefined
      let connections = 0
      let hasWarnedOfTwin = false
      const links = new Set<Link>()

      /** Registers with a gateway. Returns the address for the connection, and what the gateway says. */
      const register = (url: URL) =>
        Effect.gen(function* () {
          const fleet = { incarnation, labels, capacity, version: Package.version }
          const answer = yield* Registration.askAs(auth, url, { fleet })
          const address = yield* Registration.addressIn(answer, target)
          const welcome = decodeWelcome(isRecord(answer) ? answer["fleet"] : undefined)
          return Option.isNone(welcome) ? yield* notAFleet : { address, welcome: welcome.value }
        }).pipe(
          Effect.tapError((error) => {
            if (!isTaken(error) || hasWarnedOfTwin) return Effect.void
            hasWarnedOfTwin = true
            return Effect.logWarning(`${error.message}; waiting for it`)
          })
        )

      const urlAt = (base: string): URL => new URL(`${base}/cloud/environment/${environmentId}/register`)

      type Registered = Effect.Effect.Success<ReturnType<typeof register>>
      /** What the first registration has told. */
      const first: Registered | undefined = yield* Effect.catchAll(register(target.url), (error) =>
        error.retryable || isTaken(error) ? Effect.as(Effect.logWarning(error.message), undefined) : error
      )

      const run: Transport["Type"]["run"] = <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) =>
        Effect.scoped(
          Effect.gen(function* () {
            const fork = yield* FiberSet.makeRuntime<R>()
            const drained = yield* Deferred.make<void>()
            /** The dialers of gateways, by their addresses. */
            const dialers = new Map<string, GatewayDialer>()

            let reportTimer: NodeJS.Timeout | undefined
            const report = () => {
              clearTimeout(reportTimer)
              const message = sessions.report()
              for (const link of links) link.send(message)
              reportTimer = setTimeout(report, reporting.everyMs)
              isDue = false
            }
            let isDue = false
            const sessions = HostSessions.make(registry, () => {
              if (isDue) return
              isDue = true
              clearTimeout(reportTimer)
              reportTimer = setTimeout(report, reporting.delayMs)
            })

            /** The fleet has declared this host lost: nothing of it may be left when it comes back. */
            const lost = (why: string) =>
              Effect.gen(function* () {
                yield* Effect.logWarning(`${why}: its sessions end, and it registers anew`)
                yield* lease.reset
                epoch = undefined
                incarnation = randomUUID()
                for (const link of Array.from(links)) link.close("the host was declared lost")
                yield* sessions.endAll
              })

            /** Takes the epoch of a registration. A greater one than before: the host was lost meanwhile. */
            const enter = (welcome: FleetMessages.Welcome) =>
              Effect.gen(function* () {
                lease.setMs(welcome.leaseMs)
                if (epoch !== undefined && welcome.epoch > epoch) {
                  yield* sessions.endAll
                  yield* Effect.logWarning("the fleet has declared this host lost; its sessions have ended")
                }
                epoch = welcome.epoch
                yield* Effect.asVoid(lease.heard)
              })

            const take = (link: Link, base: URL, { ticket, subject }: { ticket: string; subject: string }) =>
              dialBack(base, ticket, (socket) => {
                link.sockets.add(socket)
                socket.once("close", () => link.sockets.delete(socket))
                reverse.take(socket, (ws) => {
                  connections++
                  const peer = WebSocketPeer.make(ws, socket, {
                    name: HostSessions.peerName(link.welcome.gateway, connections),
                    grant: { id: subject },
                    pingIntervalMs: timerMs(pingIntervalMs),
                    unfinished
                  })
                  const gone = Effect.async<void>((resume) => {
                    if (ws.readyState === ws.CLOSED) resume(Effect.void)
                    else ws.once("close", () => resume(Effect.void))
                  })
                  fork(Effect.ensuring(serve(peer), gone))
                })
              }).pipe(
                Effect.catchAll((message) =>
                  Effect.sync(() => link.send({ method: "fleet/undialled", params: { ticket, message } }))
                )
              )

            const onMessage = (link: Link, base: URL, message: FleetMessages.ToHost): Effect.Effect<void> => {
              switch (message.method) {
                case "fleet/beat":
                  return Effect.gen(function* () {
                    if (!(yield* lease.heard)) return
                    link.heardAt = performance.now()
                    link.send({ method: "fleet/beat", params: {} })
                    link.peers = message.params.peers.map(httpOf)
                    for (const peer of link.peers) yield* dialGateway(peer)
                  })
                case "fleet/dial":
                  return take(link, base, message.params)
                case "fleet/end":
                  return sessions.end(message.params.sessions, message.params.onlyIdle)
                case "fleet/lost":
                  return epoch === message.params.epoch ? lost("the fleet has declared this host lost") : Effect.void
                case "fleet/shutdown":
                  return Effect.zipRight(
                    Effect.logInfo("the host is drained"),
                    Effect.asVoid(Deferred.succeed(drained, undefined))
                  )
              }
            }

            /** Serves the connection to one gateway. */
            const attach =
              (base: URL) =>
              (
                { socket, welcome }: { socket: RelaySocket.RelaySocket; welcome: FleetMessages.Welcome },
                hooks: Dialer.Hooks
              ) => {
                let control: Peer | undefined
                const link: Link = {
                  base: base.href.replace(/\/$/, ""),
                  welcome,
                  heardAt: performance.now(),
                  peers: welcome.peers.map(httpOf),
                  send: (message) => control?.send(JSON.stringify(message)),
                  close: (reason) => {
                    for (const socket of link.sockets) socket.destroy()
                    socket.close(1001, reason)
                  },
                  sockets: new Set()
                }
                const run = (effect: Effect.Effect<void>) => fork(effect)
                links.add(link)
                let lookedAt = performance.now()
                // The fence: a gateway that is silent may be frozen, with its clients long served by another one.
                const look = setInterval(() => {
                  const now = performance.now()
                  const isLate = now - lookedAt > FleetMessages.beatMs
                  lookedAt = now
                  // This process itself was held up: what has come meanwhile is read first.
                  if (!isLate && now - link.heardAt > FleetMessages.silenceMs) link.close("the gateway is silent")
                }, lookMs)
                const accept: Dialer.Hooks["accept"] = (peer, onEnded) => {
                  if (peer.name !== `relay stream ${welcome.control}`) return hooks.accept(peer, onEnded)
                  control = peer
                  onEnded(() => {
                    control = undefined
                  })
                  peer.listen({
                    onMessage: (text) => {
                      const parsed = FleetMessages.parseToHost(text)
                      if (Either.isRight(parsed)) run(onMessage(link, base, parsed.right))
                      else hooks.warn(`the gateway has sent what is no message: ${parsed.left}`)
                    },
                    onMalformed: hooks.warn,
                    onDrain: () => {},
                    onEnd: () => {}
                  })
                  link.send(sessions.report())
                }
                const onEnd: Dialer.Hooks["onEnd"] = (code, reason) => {
                  clearInterval(look)
                  links.delete(link)
                  hooks.onEnd(code, reason)
                }
                RelayMux.run(socket, { ...hooks, accept, onEnd, limits, maxMessageBytes, frames })
              }

            /** Registers with a gateway and connects to it. */
            const open = (base: string) =>
              Effect.gen(function* () {
                const { address, welcome } = yield* Effect.mapError(
                  register(urlAt(base)),
                  ({ message }) => new RelaySocket.DialError({ message, status: undefined })
                )
                yield* enter(welcome)
                const socket = yield* RelaySocket.dial(address, {
                  maxMessageBytes: Math.max(maxMessageBytes, limits.maxWholeBytes)
                })
                yield* onRegistered(environmentId)
                hasWarnedOfTwin = false
                return { socket, welcome, close: socket.close }
              })

            /** Keeps a connection to a gateway. */
            const dialGateway = (base: string): Effect.Effect<void> =>
              Effect.suspend(() => {
                if (dialers.has(base)) return Effect.void
                const dialer = Dialer.run(serve, { open: open(base), attach: attach(new URL(base)), waits })
                const fiber = fork(dialer)
                dialers.set(base, { fiber, namedAt: performance.now() })
                fiber.addObserver(() => dialers.delete(base))
                return Effect.void
              })

            const learn = ({ address, welcome }: Registered) =>
              Effect.gen(function* () {
                yield* dialGateway(baseOf(address))
                for (const peer of welcome.peers) yield* dialGateway(httpOf(peer))
              })

            /** While no gateway is connected, the address of all of them is asked which there are. */
            const discover = Effect.gen(function* () {
              yield* Effect.sleep("1 second")
              if (links.size > 0) return
              yield* Effect.matchEffect(register(target.url), {
                onFailure: ({ message }) => Effect.logDebug(message),
                onSuccess: learn
              })
            })

            /** Gateways that have gone are not dialled for ever. One that was frozen is no peer of the others meanwhile. */
            const forget = Effect.gen(function* () {
              yield* Effect.sleep("1 minute")
              if (links.size === 0) return
              const now = performance.now()
              const named = new Set(Array.from(links, ({ base, peers }) => [base, ...peers]).flat())
              for (const [base, dialer] of Array.from(dialers)) {
                if (named.has(base)) dialer.namedAt = now
                else if (now - dialer.namedAt >= forgetMs) yield* Fiber.interruptFork(dialer.fiber)
              }
            })

            yield* Effect.addFinalizer(() =>
              Effect.sync(() => {
                clearTimeout(reportTimer)
                sessions.stop()
                // The sessions end with this server: the fleet need not wait for the lease.
                for (const link of links) link.send({ method: "fleet/leave", params: {} })
              })
            )
            if (first !== undefined) yield* learn(first)
            report()
            yield* Effect.forkScoped(Effect.forever(discover))
            yield* Effect.forkScoped(Effect.forever(forget))
            const watch = Effect.forever(
              Effect.zipRight(lease.lapsed, lost("no gateway was heard for the time of the lease"))
            )
            yield* Effect.raceFirst(watch, Deferred.await(drained))
          })
        )

      return { address: redactUrl(target.url.href), run }
    })
  )
