/**
 * Demultiplexes one relay socket into streams, and presents each stream as a peer. Streams are independent: errors,
 * pauses and the end of one do not affect the others.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as Either from "effect/Either"
import type { FramePool } from "../session/FramePool.js"
import type { Grant } from "../session/Grant.js"
import type { Peer, PeerEvents } from "../session/Peer.js"
import type { Hooks } from "./Dialer.js"
import { RelayDriver, Turns } from "./RelayDriver.js"
import * as RelayFrame from "./RelayFrame.js"
import type { Limits } from "./RelayLimits.js"
import type { RelaySocket } from "./RelaySocket.js"
import { RelayStream } from "./RelayStream.js"

/** A stream does not identify its client: all clients of the environment are one subject. */
const anyClient: Grant = { id: "relay" }

/** The most ended streams whose next sequence number is remembered. */
const maxRemembered = 1024

/** The most streams that are opened in one turn of the event loop: each takes a fraction of a millisecond. */
const opensPerTurn = 4

/** The most frames, and bytes of the last one, that wait until their stream is opened; with more it is opened at once. */
const waiting = { frames: 16, bytes: 65536 } as const

/** The deadline for a silent peer to respond when its client resumes the session elsewhere, in milliseconds. */
const probeMs = 2000

/** Options of a mux. */
export interface Options extends Hooks {
  readonly limits: Limits
  readonly maxMessageBytes: number
  /** Buffers for outgoing frames. */
  readonly frames: FramePool
}

/** Presents the streams of a socket as peers, until the socket is gone. */
export const run = (socket: RelaySocket, { limits, maxMessageBytes, frames, accept, warn, onEnd }: Options): void => {
  const streams = new Map<string, RelayDriver>()
  /** The next sequence number of streams that have ended, or that were announced and have sent nothing yet. */
  const remembered = new Map<string, number>()
  /**
   * The first frames of streams that are not open yet. A flood of new streams must not hold up the others, and one that is
   * reset meanwhile is never opened.
   */
  const opening = new Map<string, Array<RelayFrame.Frame>>()
  let nextOpens: NodeJS.Immediate | undefined
  const dropped = new Map<RelayFrame.DropReason, number>()
  const budget = { used: 0 }
  const turns = new Turns(socket)

  const remember = (streamId: string, nextSeq: number) => {
    remembered.delete(streamId)
    remembered.set(streamId, nextSeq)
    const [oldest] = remembered.keys()
    if (remembered.size > maxRemembered && oldest !== undefined) remembered.delete(oldest)
  }

  const drop = ({ reason, message }: RelayFrame.Drop) => {
    const count = (dropped.get(reason) ?? 0) + 1
    dropped.set(reason, count)
    if (count === 1) warn(`${message}; it is dropped, and so are others like it`)
  }

  const refuse = (streamId: string, reason: string) => {
    turns.reset(streamId, RelayFrame.encodeReset(streamId, reason))
  }

  const open = (streamId: string): RelayDriver => {
    let events: PeerEvents | undefined
    let over = false
    let ended = () => {}
    turns.renew(streamId)
    const startsAt = remembered.get(streamId)
    const stream = new RelayStream(
      { limits, maxMessageBytes, budget, initiator: false, ...(startsAt === undefined ? {} : { startsAt }) },
      performance.now()
    )
    const driver: RelayDriver = new RelayDriver(streamId, stream, turns, {
      onMessage: (bytes) => {
        if (isUtf8(bytes)) events?.onMessage(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
        else events?.onMalformed("the message is not valid UTF-8")
      },
      onDrain: () => events?.onDrain(),
      onEnd: () => {
        over = true
        if (streams.get(streamId) === driver) streams.delete(streamId)
        remember(streamId, driver.nextSeq)
        events?.onEnd()
        ended()
      }
    })
    streams.set(streamId, driver)
    const peer: Peer = {
      name: `relay stream ${streamId}`,
      grant: anyClient,
      malformedPrefix: `failed to parse JSON-RPC message from exec-server relay stream ${streamId}`,
      resumable: true,
      listen: (given) => {
        events = given
        if (over) given.onEnd()
        else driver.resume()
      },
      send: (text) => driver.send(RelayFrame.message(text, frames)),
      sendUtf8: (bytes, onSent) => driver.send(RelayFrame.wrap(bytes, onSent)),
      sendBinary: (bytes, onSent) => driver.send(RelayFrame.wrap(bytes, onSent)),
      roomAround: RelayFrame.roomAround,
      buffered: () => driver.queuedBytes,
      pause: () => driver.pause(),
      resume: () => driver.resume(),
      probe: (onAnswer) => driver.probe(probeMs, onAnswer),
      close: ({ reason }) => {
        // The id is free now: its next frame opens a new connection.
        if (streams.get(streamId) === driver) streams.delete(streamId)
        remember(streamId, driver.nextSeq)
        driver.close(reason)
      }
    }
    accept(peer, (f) => {
      ended = f
      if (over) f()
    })
    return driver
  }

  /** Handles a frame of an unknown stream. */
  const onUnknown = (frame: RelayFrame.Frame) => {
    const { streamId, body, reliable, acknowledged } = frame
    if (body._tag === "Reset") return
    // A reliable peer never reuses an id. It just does not know yet that the stream has ended.
    if (reliable && (acknowledged || remembered.has(streamId))) return refuse(streamId, "the stream is not known here")
    if (body._tag === "Resume" && !reliable) return remember(streamId, body.nextSeq)
    if (body._tag !== "Data" && body._tag !== "Resume") return
    if (streams.size + opening.size >= limits.maxStreams) {
      return refuse(streamId, `the limit of ${limits.maxStreams} streams is reached; end others first`)
    }
    const frames: Array<RelayFrame.Frame> = []
    opening.set(streamId, frames)
    nextOpens ??= setImmediate(openSome)
    receiveEarly(frames, frame)
  }

  const openNow = (streamId: string, frames: ReadonlyArray<RelayFrame.Frame>) => {
    opening.delete(streamId)
    const driver = open(streamId)
    for (const frame of frames) driver.receive(frame)
  }

  const openSome = () => {
    nextOpens = undefined
    for (const [streamId, frames] of Array.from(opening).slice(0, opensPerTurn)) openNow(streamId, frames)
    if (opening.size > 0) nextOpens = setImmediate(openSome)
  }

  /** Receives a further frame of a stream that is not open yet. */
  const receiveEarly = (frames: Array<RelayFrame.Frame>, frame: RelayFrame.Frame) => {
    const { streamId, body } = frame
    if (body._tag === "Reset") {
      opening.delete(streamId)
      return
    }
    frames.push(frame)
    const isLarge = body._tag === "Data" && body.payload.byteLength > waiting.bytes
    if (isLarge || frames.length > waiting.frames) openNow(streamId, frames)
  }

  socket.listen({
    onFrame: (bytes) => {
      const frame = RelayFrame.decode(bytes)
      if (Either.isLeft(frame)) return drop(frame.left)
      const { streamId } = frame.right
      const driver = streams.get(streamId)
      const early = opening.get(streamId)
      if (driver !== undefined) driver.receive(frame.right)
      else if (early !== undefined) receiveEarly(early, frame.right)
      else onUnknown(frame.right)
    },
    onText: () => drop(RelayFrame.textDrop),
    onDrain: () => turns.onDrain(),
    onEnd: (code, reason) => {
      clearImmediate(nextOpens)
      opening.clear()
      for (const driver of Array.from(streams.values())) driver.stop("the relay socket is gone")
      const count = Array.from(dropped.values()).reduce((sum, n) => sum + n, 0)
      if (count > dropped.size) warn(`${count} relay frames were dropped in all`)
      onEnd(code, reason)
    }
  })
}
