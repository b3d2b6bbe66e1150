/**
 * In-process peers, for tests and for clients that bring their own server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type { Ending, Peer, PeerEvents } from "../session/Peer.js"
import { Transport } from "./Transport.js"

/**
 * The client's end of a connection.
 *
 * @category models
 */
export interface Link {
  /** Sends one message. It arrives in a later microtask. */
  readonly send: (text: string) => void
  /** Ends the connection. */
  readonly close: () => void
  /** Pauses and resumes receiving. Meanwhile messages stay with the server. */
  readonly pause: () => void
  readonly resume: () => void
}

/**
 * The callbacks of the client's end.
 *
 * @category models
 */
export interface LinkEvents {
  readonly onMessage: (text: string) => void
  /** The connection has ended; with the server's reason, if the server ended it. */
  readonly onEnd: (ending: Ending | undefined) => void
}

/**
 * Connects clients to the server of this process.
 *
 * @category tags
 */
export class Connector extends Context.Tag("exec-server/Memory/Connector")<
  Connector,
  { readonly connect: (events: LinkEvents) => Link }
>() {}

/** A connected pair. Each end sees the other's actions in a later microtask, in order. */
const makePair = (client: LinkEvents): { readonly peer: Peer; readonly link: Link } => {
  let server: PeerEvents | undefined
  let ended = false
  let told = false
  let clientPaused = false
  let serverPaused = false
  let toClient: Array<string> = []
  let toServer: Array<string> = []
  let buffered = 0

  const deliver = () => {
    if (server !== undefined && !serverPaused) {
      const messages = toServer
      toServer = []
      for (const text of messages) server.onMessage(text)
    }
    if (!clientPaused && toClient.length > 0) {
      const messages = toClient
      toClient = []
      buffered = 0
      for (const text of messages) client.onMessage(text)
      if (!ended) server?.onDrain()
    }
  }
  const tellServer = () => {
    const events = server
    if (events === undefined || told) return
    told = true
    events.onEnd()
  }
  const end = (ending: Ending | undefined) => {
    if (ended) return
    queueMicrotask(() => {
      if (ended) return
      serverPaused = false
      deliver()
      ended = true
      tellServer()
      client.onEnd(ending)
    })
  }
  const peer: Peer = {
    name: "memory",
    grant: { id: "memory" },
    malformedPrefix: "failed to parse JSON-RPC message from exec-server memory",
    resumable: true,
    listen: (events) => {
      server = events
      queueMicrotask(() => {
        deliver()
        // The client may have disconnected before the server listened.
        if (ended) tellServer()
      })
    },
    send: (text) => {
      if (ended) return
      toClient.push(text)
      buffered += text.length
      queueMicrotask(deliver)
    },
    buffered: () => buffered,
    pause: () => {
      serverPaused = true
    },
    resume: () => {
      serverPaused = false
      queueMicrotask(deliver)
    },
    close: end
  }
  const link: Link = {
    send: (text) => {
      if (ended) return
      toServer.push(text)
      queueMicrotask(deliver)
    },
    close: () => end(undefined),
    pause: () => {
      clientPaused = true
    },
    resume: () => {
      clientPaused = false
      queueMicrotask(deliver)
    }
  }
  return { peer, link }
}

/**
 * A transport and its connector.
 *
 * @category layers
 */
export const layer: Layer.Layer<Transport | Connector> = Layer.effectContext(
  Effect.sync(() => {
    let accept: ((peer: Peer) => void) | undefined
    const early: Array<Peer> = []
    return Context.make(Transport, {
      address: "memory://",
      run: <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>) =>
        Effect.scoped(
          Effect.gen(function* () {
            const fork = yield* FiberSet.makeRuntime<R>()
            accept = (peer) => fork(serve(peer))
            for (const peer of early.splice(0)) accept(peer)
            return yield* Effect.never
          })
        )
    }).pipe(
      Context.add(Connector, {
        connect: (events) => {
          const { peer, link } = makePair(events)
          if (accept === undefined) early.push(peer)
          else accept(peer)
          return link
        }
      })
    )
  })
)
