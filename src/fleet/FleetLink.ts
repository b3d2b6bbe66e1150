/**
 * A gateway's end of its connection to one host: the control stream, and how sessions reach the host.
 *
 * A host that knows of fleets answers beats, reports its sessions, and opens a connection for each. Any other executor is
 * pinged, and its sessions are relay streams, encrypted if it takes no others, as today's codex.
 *
 * @since 0.1.0
 */
import { type Buffer, isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { WebSocket } from "ws"
import type { KeyPair } from "../remote/noise/KeyPair.js"
import * as RelayClient from "../remote/RelayClient.js"
import type { Limits } from "../remote/RelayLimits.js"
import { highWaterBytes } from "../remote/RelaySocket.js"
import type { Vouch } from "../remote/Rendezvous.js"
import type { RendezvousRouter } from "../remote/RendezvousRouter.js"
import type { DialBack } from "./DialBack.js"
import * as FleetMessages from "./FleetMessages.js"
import { bytePair, relayPair } from "./LocalSocket.js"
import type { ReverseServer } from "./ReverseServer.js"
import { UpstreamError } from "./Upstream.js"

/** How long a host may take to answer a handshake, in milliseconds. */
const handshakeMs = 5000

/** The host at the other end. */
export interface HostIdentity {
  readonly id: string
  readonly no: number
  readonly epoch: number
  readonly incarnation: string
  /** The id of the control stream; undefined if the host knows of no fleets. */
  readonly control: string | undefined
}

/** What a link needs of its gateway. */
export interface Options {
  readonly router: RendezvousRouter
  /** For an encrypted host: vouches to it for a key of the gateway. */
  readonly vouch: Vouch | undefined
  readonly limits: Limits
  readonly maxMessageBytes: number
  readonly dialBack: DialBack
  /** The server whose connections are relay streams of hosts. */
  readonly streams: ReverseServer
  readonly peers: () => ReadonlyArray<string>
  readonly onReport: (
    message: Extract<FleetMessages.ToGateway, { readonly method: "fleet/sessions" }>["params"]
  ) => void
  readonly onLeave: () => void
  readonly warn: (message: string) => void
  /** The connection is gone. Called once. */
  readonly onEnd: () => void
}

/** The connection to a host. */
export interface FleetLink {
  readonly host: HostIdentity
  /** Whether the host was heard a short time ago. */
  readonly isHeard: () => boolean
  readonly send: (message: FleetMessages.ToHost) => void
  /** Opens a connection to the host for a session of this subject. The caller owns it. */
  readonly dial: (subject: string) => Effect.Effect<Duplex, UpstreamError>
  /** Ends the connection to the host. */
  readonly close: (reason: string) => void
}

/** Passes messages on between a WebSocket and a relay stream. */
const bridge = (ws: WebSocket, connection: Duplex, link: RelayClient.Link) => {
  ws.on("error", () => {})
  ws.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary && !isUtf8(data)) return ws.close(1003, "binary messages are not accepted")
    link.send(data.toString())
    if (link.buffered() > highWaterBytes) ws.pause()
  })
  ws.once("close", () => link.close())
  const slow = () => {
    if (ws.bufferedAmount > highWaterBytes) link.pause()
  }
  connection.on("drain", () => link.resume())
  link.listen({
    onMessage: (text) => {
      ws.send(text)
      slow()
    },
    onBinary: (bytes) => {
      ws.send(bytes, { binary: true })
      slow()
    },
    onDrain: () => ws.resume(),
    onEnd: (reason) => ws.close(1013, reason.slice(0, 40))
  })
}

/** Opens a link to a host that has just connected. */
export const make = (host: HostIdentity, options: Options): FleetLink => {
  const { router, vouch, limits, maxMessageBytes, dialBack, streams, peers, onReport, onLeave, warn, onEnd } = options
  const join = () => {
    const [forRouter, own] = relayPair()
    router.addClient(forRouter)
    return own
  }
  const openStream = (streamId: string) => RelayClient.over(join(), streamId, { limits, maxMessageBytes }).link

  let heardAt = performance.now()
  let isOver = false
  const hear = () => {
    heardAt = performance.now()
  }
  const isHeard = () => !isOver && performance.now() - heardAt < FleetMessages.silenceMs
  /** The tickets of connections that the host was asked for. */
  const dialled = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  const over = () => {
    if (isOver) return
    isOver = true
    clearInterval(timer)
    for (const ticket of dialled) dialBack.refuse(ticket, "the host has gone")
    onEnd()
  }

  const control = host.control === undefined ? undefined : openStream(host.control)
  const send = (message: FleetMessages.ToHost) => {
    if (!isOver) control?.send(JSON.stringify(message))
  }
  const close = (reason: string) => {
    over()
    router.disconnect(reason)
  }
  let hasWarned = false
  // Without a control stream, only the end of the connection is told.
  if (control === undefined) join().listen({ onFrame: () => {}, onText: () => {}, onDrain: () => {}, onEnd: over })
  control?.listen({
    onMessage: (text) => {
      const parsed = FleetMessages.parseToGateway(text)
      if (Either.isLeft(parsed)) {
        if (!hasWarned) warn(`the host ${host.id} has sent what is no message: ${parsed.left}`)
        hasWarned = true
        return
      }
      hear()
      const message = parsed.right
      switch (message.method) {
        case "fleet/beat":
          return
        case "fleet/undialled":
          return dialled.has(message.params.ticket)
            ? dialBack.refuse(message.params.ticket, `the host cannot connect: ${message.params.message}`)
            : undefined
        case "fleet/sessions":
          return onReport(message.params)
        case "fleet/leave":
          return onLeave()
      }
    },
    onDrain: () => {},
    onEnd: over
  })

  const beat = () => send({ method: "fleet/beat", params: { peers: peers() } })
  const ping = () =>
    router.probe((isAlive) => {
      if (isAlive) hear()
    })
  timer = setInterval(() => {
    if (control === undefined) ping()
    else if (isHeard()) beat()
    else close("the host is silent")
  }, FleetMessages.beatMs)
  beat()

  const toStream = (open: () => RelayClient.Link): Duplex => {
    const [forDoor, forStream] = bytePair()
    streams.take(forStream, (ws) => bridge(ws, forStream, open()))
    return forDoor
  }
  const dialPlain = Effect.sync(() => toStream(() => openStream(randomUUID())))

  let own: KeyPair | undefined
  // Loaded on first use: encryption needs ML-KEM-768.
  const load = Effect.promise(() =>
    Promise.all([import("../remote/noise/KeyPair.js"), import("../remote/noise/NoiseClient.js")])
  )
  const failed = (message: string) => new UpstreamError({ message })
  const dialEncrypted = (vouch: Vouch) =>
    Effect.gen(function* () {
      const [KeyPair, NoiseClient] = yield* load
      own ??= KeyPair.generate()
      const vouched = vouch(own.public)
      if (vouched === undefined) return yield* failed("the host has gone")
      const begun = yield* NoiseClient.initiate(host.id, own, vouched)
      const { maxHeldBytes } = limits
      return yield* Effect.uninterruptibleMask((restore) => {
        const { link, ready } = NoiseClient.over(join(), begun, { maxMessageBytes, maxHeldBytes })
        return ready.pipe(
          Effect.timeoutFail({ duration: handshakeMs, onTimeout: () => failed("the host does not answer") }),
          restore,
          Effect.onError(() => Effect.sync(() => link.close())),
          Effect.map(() => {
            const connection = toStream(() => link)
            // Also before the door has asked for a WebSocket.
            connection.once("close", () => link.close())
            return connection
          })
        )
      })
    }).pipe(Effect.mapError(({ message }) => failed(message)))
  const dialStream = vouch === undefined ? dialPlain : dialEncrypted(vouch)
  return {
    host,
    isHeard,
    send,
    dial: (subject) =>
      host.control === undefined
        ? dialStream
        : Effect.suspend(() => {
            let own = ""
            return dialBack
              .dial((ticket) => {
                own = ticket
                dialled.add(ticket)
                send({ method: "fleet/dial", params: { ticket, subject } })
              })
              .pipe(Effect.ensuring(Effect.sync(() => void dialled.delete(own))))
          }),
    close
  }
}
