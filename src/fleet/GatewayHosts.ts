/**
 * The hosts of a gateway: their registration, their connections, their leases, and where a session is. What the directory
 * says is read every second, so that sessions are found without it.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { isNotNullable, isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Package from "../internal/Package.js"
import { RelayLimits } from "../remote/RelayLimits.js"
import type { Admitted, Refusal, Vouch } from "../remote/Rendezvous.js"
import type { RendezvousRouter } from "../remote/RendezvousRouter.js"
import * as DialBack from "./DialBack.js"
import type { DirectoryUnavailable, HostTaken, Registered } from "./DirectoryApi.js"
import { FleetDirectory } from "./FleetDirectory.js"
import * as FleetLink from "./FleetLink.js"
import * as FleetMessages from "./FleetMessages.js"
import * as FleetMetrics from "./FleetMetrics.js"
import type { HostRow } from "./FleetRows.js"
import * as PlainDoor from "./PlainDoor.js"
import * as ReverseServer from "./ReverseServer.js"
import type { Place } from "./SessionIds.js"

/** The longest message of a relay stream, in bytes. */
const maxMessageBytes = 67_108_864

/** The most sessions of a host that does not say how many it takes. */
const plainCapacity = 64

/** How old the list of hosts may be to prove that there is no such host, in milliseconds. */
const freshMs = 3000

/** How long the session of a host that does not report is kept without its client, in milliseconds. */
const keepMs = 60_000

/** How often such a session is said to live, in milliseconds. */
const carryMs = 10_000

/** The time between two rounds of tidying, in milliseconds. */
const tidyMs = 5000

/** How soon after a notice the hosts are read: many come at once. */
const noticeMs = 20

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

/** The hosts of one gateway, while the scope is open. `ownUrl` is asked for when it is needed. */
export const make = (gateway: string, leaseMs: number, ownUrl: () => string | undefined) =>
  Effect.gen(function* () {
    const directory = yield* FleetDirectory
    const limits = yield* RelayLimits
    const { version } = Package
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

    const connect = (host: FleetLink.HostIdentity, router: RendezvousRouter, vouch: Vouch | undefined) => {
      const link = FleetLink.make(host, {
        router,
        vouch,
        limits,
        maxMessageBytes,
        dialBack,
        streams,
        peers: () => peers,
        onReport: ({ sessions, ended, number }) =>
          fork(asked(directory.report(host.id, host.epoch, sessions, ended, number))),
        onLeave: () => {
          FleetMetrics.lost("left", 1)
          fork(Effect.zipRight(asked(directory.leave(host.id, host.epoch)), readHosts))
        },
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

    const lose = Effect.flatMap(asked(directory.lose(gateway)), (lost = []) => {
      FleetMetrics.lost("lease", lost.length)
      return Effect.forEach(
        lost,
        (id) => Effect.logWarning(`the host ${id} is lost: nobody has heard it for a lease`),
        {
          discard: true
        }
      )
    })

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

    const find = (place: Place): PlainDoor.Found => {
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

    const connectExecutor = (about: unknown, router: RendezvousRouter, vouch: Vouch | undefined) => {
      if (isCandidate(about)) connect(about.host, router, vouch)
    }

    /** A host opens connections of its own. Any other executor is reached encrypted if it offers that. */
    const isEncrypted = (body: unknown) =>
      isRecord(body) && body["fleet"] === undefined && isNotNullable(body["security_profile"])

    /** Begins to renew leases, and to follow the directory. */
    const start = Effect.gen(function* () {
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
      const onChange = () => {
        if (isReading) return
        isReading = true
        fork(
          Effect.zipRight(
            Effect.sleep(noticeMs),
            Effect.suspend(() => {
              isReading = false
              return readHosts
            })
          )
        )
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => directory.onChange(onChange)),
        (stop) => Effect.sync(stop)
      )
    })

    yield* readHosts
    return {
      dialBack,
      register,
      isEncrypted,
      connectExecutor,
      heard,
      find,
      carry,
      start,
      asked,
      /** What the directory has last said. */
      rows: () => known.values(),
      isUp: () => isUp
    }
  })

/** The hosts of one gateway. */
export type GatewayHosts = Effect.Effect.Success<ReturnType<typeof make>>
