/**
 * The executor's side of an encrypted relay: completes the handshakes of one socket, once the registry has confirmed the
 * client's authorization, and presents each stream as a peer. Nothing that is wrong with one stream affects the others.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as Either from "effect/Either"
import type { Grant } from "../../session/Grant.js"
import type { Ending, Peer, PeerEvents } from "../../session/Peer.js"
import type { Hooks } from "../Dialer.js"
import { Turns } from "../RelayDriver.js"
import type { Limits } from "../RelayLimits.js"
import type { RelaySocket } from "../RelaySocket.js"
import * as Handshake from "./Handshake.js"
import * as KeyPair from "./KeyPair.js"
import * as NoiseFrame from "./NoiseFrame.js"
import { NoiseStream, protocolError } from "./NoiseStream.js"

/** All clients that the registry lets in are one subject, as on the plain relay. */
const anyClient: Grant = { id: "relay" }

/** The most handshakes that wait for the registry at a time. Further ones wait for them. */
const maxPending = 32

/** What a held record takes beyond its bytes, in bytes. */
const recordOverhead = 128

/** After this many failed handshakes of a socket, new ones are refused for a while. */
const maxFailures = 8

/** How long they are refused, in milliseconds. */
const pauseMs = 10000

/** The registry's word on a client. `ExecutorRejected`: it rejects the executor's own credential. */
export type Verdict = "Valid" | "Invalid" | "ExecutorRejected"

/** Options of a mux. */
export interface Options extends Hooks {
  readonly limits: Limits
  readonly maxMessageBytes: number
  readonly identity: KeyPair.KeyPair
  readonly environmentId: string
  /** The registration whose URL the socket was opened with. */
  readonly registrationId: string
  /** Asks the registry about a client. Returns how to stop asking. */
  readonly validate: (
    client: KeyPair.PublicKey,
    authorization: string,
    onVerdict: (verdict: Verdict) => void
  ) => () => void
}

/** The reason of a reset. Resets are not encrypted: those for violations, which quote the client, say nothing. */
const resetReason = ({ code, reason }: Ending) => (code === 1002 ? protocolError : reason)

/** Presents the streams of a socket as peers, until the socket is gone. */
export const run = (socket: RelaySocket, options: Options): void => {
  const { limits, maxMessageBytes, identity, environmentId, registrationId, validate, accept, warn, onEnd } = options
  const streams = new Map<string, NoiseStream>()
  /** Handshakes that wait for the registry, and how to give them up. */
  const pending = new Map<string, () => void>()
  /**
   * First messages of handshakes that have not begun. One begins in each turn of the event loop: each takes milliseconds,
   * and many at once must not hold up the open streams.
   */
  const waiting = new Map<string, { readonly message: Buffer; readonly since: number }>()
  let nextBegins: NodeJS.Immediate | undefined
  let nextExpires: NodeJS.Timeout | undefined
  const warned = new Set<string>()
  const reading = { maxMessageBytes, maxHeldBytes: limits.maxHeldBytes, budget: { used: 0 } }
  const turns = new Turns(socket)
  let failures = 0
  let refusesUntil = 0

  const warnOnce = (message: string) => {
    if (warned.has(message)) return
    warned.add(message)
    warn(`${message}; others like it are not reported`)
  }

  const refuse = (streamId: string, reason: string) => {
    turns.reset(streamId, NoiseFrame.reset(streamId, reason))
  }

  const fail = (streamId: string, why: string) => {
    warnOnce(`a handshake failed: ${why}`)
    refuse(streamId, protocolError)
    failures++
    if (failures < maxFailures) return
    failures = 0
    refusesUntil = performance.now() + pauseMs
    warn(`${maxFailures} handshakes have failed; new ones are refused for ${pauseMs / 1000} seconds`)
  }

  const giveUp = (streamId: string) => {
    waiting.delete(streamId)
    pending.get(streamId)?.()
    pending.delete(streamId)
    beginSoon()
  }

  /** Makes room for a record, by ending the streams that hold the most: others go on. */
  const makeRoom = (bytes: number) => {
    while (reading.budget.used + bytes > limits.maxHeldBytes && streams.size > 0) {
      Array.from(streams.values())
        .reduce((most, stream) => (stream.heldBytes > most.heldBytes ? stream : most))
        .overflow()
    }
  }

  const open = (streamId: string, keys: Handshake.Keys, client: KeyPair.PublicKey) => {
    let events: PeerEvents | undefined
    let over = false
    let ended = () => {}
    const stream: NoiseStream = new NoiseStream(streamId, keys, reading, turns, {
      onMessage: (bytes) => {
        if (isUtf8(bytes)) events?.onMessage(bytes.toString())
        else end({ code: 1002, reason: "the message is not valid UTF-8" })
      },
      onDrain: () => events?.onDrain(),
      onEnd: ({ fault }) => {
        over = true
        if (fault !== undefined) warnOnce(`a stream has ended: ${fault}`)
        if (streams.get(streamId) === stream) streams.delete(streamId)
        events?.onEnd()
        ended()
      }
    })
    const end = (ending: Ending) => {
      // The id is free now: its next handshake opens a new connection.
      if (streams.get(streamId) === stream) streams.delete(streamId)
      stream.close(resetReason(ending))
    }
    streams.set(streamId, stream)
    const peer: Peer = {
      name: `encrypted relay stream ${streamId}`,
      grant: anyClient,
      malformedPrefix: `failed to parse JSON-RPC message from exec-server relay stream ${streamId}`,
      malformedEnds: true,
      key: KeyPair.fingerprint(client),
      resumable: true,
      listen: (given) => {
        events = given
        if (over) given.onEnd()
        else stream.resume()
      },
      send: (text) => stream.send({ payload: Buffer.from(text) }),
      sendUtf8: (payload, onSealed) => stream.send({ payload, onSealed }),
      sendBinary: (payload, onSealed) => stream.send({ payload, onSealed }),
      buffered: () => stream.queuedBytes,
      pause: () => stream.pause(),
      resume: () => stream.resume(),
      close: end
    }
    accept(peer, (f) => {
      ended = f
      if (over) f()
    })
  }

  const onHandshake = (streamId: string, message: Buffer) => {
    if (streams.size + pending.size + waiting.size >= limits.maxStreams) {
      return refuse(streamId, `the limit of ${limits.maxStreams} streams is reached; end others first`)
    }
    if (message.length > Handshake.maxFirstBytes) return fail(streamId, "its message is too long")
    // Copied: a view would keep a whole frame in memory, which may be far longer.
    waiting.set(streamId, { message: Buffer.from(message), since: performance.now() })
    expireLater()
    return beginSoon()
  }

  const expireLater = () => {
    const [oldest] = waiting.values()
    if (oldest === undefined) return
    nextExpires ??= setTimeout(expire, oldest.since + limits.handshakeWaitMs - performance.now())
  }

  /** Refuses the handshakes that have waited for too long: their clients have given up, or should. */
  const expire = () => {
    nextExpires = undefined
    const before = performance.now() - limits.handshakeWaitMs
    for (const [streamId, { since }] of waiting) {
      if (since > before) break
      waiting.delete(streamId)
      refuse(streamId, "too many handshakes wait; try again")
    }
    expireLater()
  }

  const beginSoon = () => {
    if (waiting.size > 0 && pending.size < maxPending) nextBegins ??= setImmediate(beginNext)
  }

  const beginNext = () => {
    nextBegins = undefined
    const [next] = waiting
    if (next === undefined) return
    const [streamId, { message }] = next
    waiting.delete(streamId)
    begin(streamId, message)
    beginSoon()
  }

  const begin = (streamId: string, message: Buffer) => {
    if (performance.now() < refusesUntil) return refuse(streamId, "handshakes are refused for a while")
    const accepted = Handshake.accept({ environmentId, registrationId, streamId }, identity, message)
    if (Either.isLeft(accepted)) return fail(streamId, accepted.left)
    const { client, authorization, answer } = accepted.right
    const answerWith = (verdict: Verdict) => {
      pending.delete(streamId)
      beginSoon()
      if (verdict === "Invalid") return fail(streamId, "the registry does not know the client's authorization")
      const answered = answer(verdict === "Valid" ? undefined : Handshake.registryRejected)
      if (Either.isLeft(answered)) return fail(streamId, answered.left)
      turns.renew(streamId)
      socket.send(NoiseFrame.handshake(streamId, answered.right.message))
      if (verdict === "Valid") open(streamId, answered.right.keys, client)
    }
    return pending.set(streamId, validate(client, authorization, answerWith))
  }

  const onFrame = ({ streamId, body }: NoiseFrame.Frame) => {
    const stream = streams.get(streamId)
    if (body._tag === "Reset") {
      giveUp(streamId)
      stream?.stop(body.reason)
    } else if (body._tag === "Record" && stream !== undefined) {
      makeRoom(body.payload.length + recordOverhead)
      stream.receive(body.seq, body.payload)
    } else if (body._tag === "Ack") stream?.acknowledge(body.seq, body.maxBytes)
    // The stream itself goes on: its client did not send this, or ends it at the reset.
    else if (body._tag === "Handshake" && stream !== undefined) refuse(streamId, protocolError)
    else if (body._tag === "Handshake" && !pending.has(streamId) && !waiting.has(streamId))
      onHandshake(streamId, body.payload)
    else if (body._tag !== "Other") {
      giveUp(streamId)
      refuse(streamId, protocolError)
    }
  }

  socket.listen({
    onFrame: (bytes) => {
      const frame = NoiseFrame.decode(bytes)
      if (typeof frame === "string") warnOnce(`${frame}; it is dropped`)
      else onFrame(frame)
    },
    onText: () => warnOnce("relay message frames are binary, this message is text; it is dropped"),
    onDrain: () => turns.onDrain(),
    onEnd: (code, reason) => {
      clearImmediate(nextBegins)
      clearTimeout(nextExpires)
      waiting.clear()
      for (const streamId of Array.from(pending.keys())) giveUp(streamId)
      for (const stream of Array.from(streams.values())) stream.stop("the relay socket is gone")
      onEnd(code, reason)
    }
  })
}
