/**
 * Sends messages to a peer in order. Large ones are encoded in parts as the peer accepts them, so that neither the
 * event loop nor memory has to handle the whole text at once.
 *
 * @since 0.1.0
 */
import { Buffer, constants } from "node:buffer"
import { isRecord } from "effect/Predicate"
import * as Wire from "../protocol/Wire.js"
import * as Base64 from "./Base64.js"
import { highWaterBytes, type Peer } from "./Peer.js"

/** A message with one value that is the base64 of bytes. */
export interface Large {
  /** The text before the base64, including the quotation mark. */
  readonly head: string
  readonly bytes: Buffer
  /** The text after the base64. */
  readonly tail: string
}

/** A message that is already in a buffer. */
interface Frame {
  readonly bytes: Buffer
  readonly send: NonNullable<Peer["sendBinary"]>
  readonly onSent: () => void
}

/** Content of more bytes than this is sent in parts. */
const largeBytes = 1048576

/** The room for the rest of a message that cannot be sent in parts. */
const envelopeLength = 65536

/** Messages to one peer. */
export interface Outbox extends Pick<Peer, "send" | "sendUtf8" | "roomAround" | "sendBinary" | "buffered"> {
  /** Answers a request. */
  readonly succeed: (id: Wire.RequestId, result: unknown, encode: (result: unknown) => unknown) => void
  /** Sends a large message. Later messages wait for its end. */
  readonly sendLarge: (message: Large) => void
  /** Whether a large message is being sent. */
  readonly isSending: () => boolean
  /** The most bytes of content in one message. */
  readonly maxContentBytes: number
  /** The peer accepts data again. */
  readonly onDrain: () => void
  /** The peer has disconnected: no further part is encoded. */
  readonly stop: () => void
}

/** The member of a result that is too large to encode at once, if any. */
const largeMember = (result: { readonly [name: string]: unknown }) => {
  for (const name in result) {
    const value = result[name]
    if (Buffer.isBuffer(value) && value.length > largeBytes) return { name, bytes: value }
  }
  return undefined
}

/** The outbox of a peer. Calls `onSent` when the last large message was sent. */
export const make = (peer: Peer, onSent: () => void): Outbox => {
  let queue: Array<string | Frame | Large> = []
  let waitingLength = 0
  let offset = 0
  let whole: Array<string> = []
  let next: NodeJS.Immediate | undefined
  let pumping = false
  let stopped = false
  const { sendPart, sendUtf8, roomAround, sendBinary } = peer

  /** Sends the next part. Returns whether it was the last. */
  const advance = ({ head, bytes, tail }: Large): boolean => {
    const start = offset
    offset = Math.min(bytes.length, start + Base64.sliceBytes)
    const isLast = offset === bytes.length
    const text = `${start === 0 ? head : ""}${bytes.toString("base64", start, offset)}${isLast ? tail : ""}`
    if (sendPart !== undefined) sendPart(Buffer.from(text), isLast)
    else {
      whole.push(text)
      if (isLast) peer.send(whole.splice(0).join(""))
    }
    if (isLast) offset = 0
    return isLast
  }

  const pump = () => {
    // A peer may drain while it is sent something: the loop goes on anyway.
    if (pumping) return
    pumping = true
    const isSent = sendQueued()
    pumping = false
    if (isSent) onSent()
  }

  /** Sends what is queued. Returns whether all of it was sent: the rest goes in a later turn, or once the peer drains. */
  const sendQueued = (): boolean => {
    next = undefined
    while (queue.length > 0) {
      const [first] = queue
      if (typeof first === "string") {
        queue.shift()
        waitingLength -= first.length
        peer.send(first)
      } else if (first !== undefined && "send" in first) {
        queue.shift()
        waitingLength -= first.bytes.length
        first.send(first.bytes, first.onSent)
      } else if (first !== undefined) {
        if (peer.buffered() > highWaterBytes) return false
        if (advance(first)) queue.shift()
        if (queue.length > 0) {
          next = setImmediate(pump)
          return false
        }
      }
    }
    return true
  }

  /** Queues a message behind the large one being sent. */
  const wait = (message: string | Frame, length: number) => {
    queue.push(message)
    waitingLength += length
  }

  const send = (text: string) => {
    if (queue.length === 0) peer.send(text)
    else wait(text, text.length)
  }

  const inOrder =
    (send: Frame["send"]): Frame["send"] =>
    (bytes, onSent) => {
      if (queue.length === 0) send(bytes, onSent)
      else wait({ bytes, send, onSent }, bytes.length)
    }

  const sendLarge = (message: Large) => {
    if (stopped) return
    queue.push(message)
    next ??= setImmediate(pump)
  }

  return {
    send,
    ...(sendUtf8 === undefined ? {} : { sendUtf8: inOrder(sendUtf8) }),
    ...(roomAround === undefined ? {} : { roomAround }),
    ...(sendBinary === undefined ? {} : { sendBinary: inOrder(sendBinary) }),
    buffered: () => peer.buffered() + waitingLength,
    succeed: (id, result, encode) => {
      const large = isRecord(result) ? largeMember(result) : undefined
      if (!isRecord(result) || large === undefined) return send(Wire.success(id, encode(result)))
      const others = encode({ ...result, [large.name]: Buffer.alloc(0) })
      sendLarge({ ...Wire.successAround(id, isRecord(others) ? others : {}, large.name), bytes: large.bytes })
    },
    sendLarge,
    isSending: () => queue.length > 0,
    maxContentBytes:
      sendPart === undefined
        ? Math.floor((constants.MAX_STRING_LENGTH - envelopeLength) / 4) * 3
        : Number.POSITIVE_INFINITY,
    onDrain: () => {
      if (queue.length > 0 && next === undefined) pump()
    },
    stop: () => {
      stopped = true
      queue = []
      whole = []
      waitingLength = 0
      clearImmediate(next)
    }
  }
}
