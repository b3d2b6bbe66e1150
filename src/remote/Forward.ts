/**
 * Serves each peer by a connection of its own to another server: messages are passed on as they are, in both directions.
 * Nothing in them is read.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import { WebSocketChannel } from "../internal/WebSocketChannel.js"
import { redactUrl } from "../protocol/Redact.js"
import { type Ending, highWaterBytes, type Peer } from "../session/Peer.js"
import * as RelaySocket from "./RelaySocket.js"

/** The server that peers are passed on to. */
export interface Destination {
  /** `ws://`, `wss://`, or `unix:///PATH`. */
  readonly url: string
  /** The headers of each upgrade request; a text says why there are none. */
  readonly headers: Effect.Effect<Readonly<Record<string, string>>, string>
  /** The time between pings of the server, in milliseconds. */
  readonly pingIntervalMs: number
}

/** The longest message of the server, in bytes: what clients accept. */
const maxMessageBytes = 268435456

/** The pings that the server may leave unanswered before it is considered gone. */
const maxUnansweredPings = 3

const none = () => {}

/** A copy with the room that the peer writes its framing into. */
const roomy = (bytes: Buffer, room: NonNullable<Peer["roomAround"]>): Buffer => {
  const copy = Buffer.allocUnsafeSlow(room.before + bytes.length + room.after)
  bytes.copy(copy, room.before)
  return copy.subarray(room.before, room.before + bytes.length)
}

/** Passes a message of the server on. False if the peer takes none of its kind. */
const pass = (peer: Peer, message: Buffer, isBinary: boolean): boolean => {
  const send = isBinary ? peer.sendBinary : peer.sendUtf8
  if (send !== undefined) send(peer.roomAround === undefined ? message : roomy(message, peer.roomAround), none)
  else if (!isBinary) peer.send(message.toString())
  return send !== undefined || !isBinary
}

/** How a peer ends after the server's end of its connection. */
const endingOf = (code: number, reason: string): Ending => {
  switch (code) {
    case 1000:
    case 1001:
    case 1002:
    case 1008:
      return { code, reason: reason === "" ? "the server has closed the connection" : reason }
    default:
      return { code: 1001, reason: "the connection to the server behind the forwarder was lost" }
  }
}

/** Passes messages on until either end is gone, and then ends the other one. What one end cannot take, is not read. */
const splice = (peer: Peer, { ws, socket }: RelaySocket.Opened, pingIntervalMs: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const channel = new WebSocketChannel(ws, socket, {
      intervalMs: pingIntervalMs,
      maxUnanswered: maxUnansweredPings,
      // It may wait for the peer to read.
      countsWhilePaused: false
    })
    let isPeerPaused = false
    ws.on("message", (message: Buffer, isBinary: boolean) => {
      if (!pass(peer, message, isBinary)) peer.close({ code: 1008, reason: "this connection carries text alone" })
      else if (peer.buffered() > highWaterBytes) channel.pause()
    })
    socket.on("drain", () => {
      if (isPeerPaused) peer.resume()
      isPeerPaused = false
    })
    channel.onceClosed((code, reason) => {
      peer.close(endingOf(code, reason))
      resume(Effect.void)
    })
    peer.listen({
      onMessage: (text) => {
        channel.send(text)
        if (channel.buffered <= highWaterBytes) return
        isPeerPaused = true
        peer.pause()
      },
      onMalformed: (reason) => {
        peer.close({ code: 1002, reason })
        channel.close(1000, "")
      },
      onDrain: () => channel.resume(),
      onEnd: () => channel.close(1000, "the client is gone")
    })
    channel.resume()
    return Effect.sync(() => channel.close(1001, "the forwarder is shutting down"))
  })

/** Why the server cannot be reached, for clients: without its address. */
const unreachable = (status: number | undefined): Ending =>
  status === undefined
    ? { code: 1001, reason: "the server behind the forwarder cannot be reached" }
    : { code: 1001, reason: `the server behind the forwarder refuses it (HTTP ${status})` }

/**
 * Makes what serves peers. If the server cannot be reached, the peer ends with a reason, and the next one is tried anew.
 * The first of such failures is logged, and the first success after it.
 */
export const make = ({ url, headers, pingIntervalMs }: Destination): ((peer: Peer) => Effect.Effect<void>) => {
  const shown = redactUrl(url)
  let fault: string | undefined

  const noteFault = (message: string) =>
    Effect.suspend(() => {
      if (fault === message) return Effect.void
      fault = message
      return Effect.logWarning(`${message}; clients are turned away until the server at ${shown} answers`)
    })
  const noteSuccess = Effect.suspend(() => {
    if (fault === undefined) return Effect.void
    fault = undefined
    return Effect.logWarning(`the server at ${shown} answers again`)
  })

  const open = Effect.flatMap(
    Effect.mapError(headers, (message) => new RelaySocket.DialError({ message, status: undefined })),
    (headers) => RelaySocket.open(url, { maxPayload: maxMessageBytes, headers, allowsUnix: true })
  )

  return (peer) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.matchEffect(restore(open), {
        onFailure: ({ message, status }) =>
          Effect.zipRight(
            noteFault(message),
            Effect.sync(() => peer.close(unreachable(status)))
          ),
        onSuccess: (opened) => Effect.zipRight(noteSuccess, restore(splice(peer, opened, pingIntervalMs)))
      })
    )
}
