/**
 * Encodes and decodes relay frames, and defines which frames are dropped.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire"
import * as Either from "effect/Either"
import type { FramePool } from "../session/FramePool.js"
import {
  RelayAckSchema,
  RelayHeartbeatSchema,
  type RelayMessageFrame,
  RelayMessageFrameSchema,
  RelayResetSchema,
  RelayResumeSchema
} from "./gen/relay_pb.js"

/** Reference-counted memory of a message and its frame, freed by the last release. */
export class Room {
  private holders = 0

  constructor(
    readonly buffer: Buffer,
    private readonly giveBack: () => void
  ) {}

  hold(): void {
    this.holders++
  }

  release(): void {
    this.holders--
    if (this.holders === 0) this.giveBack()
  }
}

/** A piece of a message; most messages have only one. `seq` counts pieces, modulo 2^32. */
export interface Segment {
  readonly seq: number
  readonly index: number
  readonly count: number
  readonly payload: Uint8Array
  /** The memory around the payload, if the frame may be written there; `roomAround` gives its size. */
  readonly room?: Room | undefined
}

/** A message, and its memory. */
export interface Message {
  readonly payload: Uint8Array
  readonly room?: Room | undefined
}

/** A frame that carries a segment. */
export interface Data extends Segment {
  readonly _tag: "Data"
}

/** The body of a frame. */
export type Body =
  | Data
  | { readonly _tag: "Ack" }
  | { readonly _tag: "Resume"; readonly nextSeq: number }
  | { readonly _tag: "Reset"; readonly reason: string }
  | { readonly _tag: "Heartbeat" }

/** The acknowledgement in every frame, for the segments of the other side. */
export interface Received {
  /** Everything up to this segment was received. */
  readonly ack: number
  /** Bit i: segment `ack + 1 + i` was received as well. */
  readonly ackBits: number
  /** The sender acknowledges segments, retransmits, and reassembles messages. */
  readonly reliable: boolean
  /** Whether segment `ack` was received. Without it, an `ack` of 0 may mean that nothing was. */
  readonly acknowledged: boolean
}

/** One frame of one stream. */
export interface Frame extends Received {
  readonly streamId: string
  readonly body: Body
}

/** Why a frame is dropped. Few reasons, so that they can be counted. */
export type DropReason =
  | "text"
  | "undecodable"
  | "version"
  | "streamId"
  | "body"
  | "handshake"
  | "segment"
  | "emptyPayload"
  | "resetReason"

/** A dropped frame, and a sentence for the log. */
export interface Drop {
  readonly reason: DropReason
  readonly message: string
}

/** The only version. */
export const version = 1

/** The longest stream id, in bytes. */
export const maxStreamIdBytes = 128

/** The longest reason of a reset, in bytes. */
const maxResetReasonBytes = 256

/** The most bytes that a frame adds to its payload. */
export const maxOverheadBytes = 1024

/** The bytes to leave free around a payload, so that its frame can be written there without copying it. */
export const roomAround = { before: 256, after: 8 } as const

/** A text as a message. A long one is written to a buffer of the pool, if there is one. */
export const message = (text: string, frames?: FramePool): Message => {
  const { before, after } = roomAround
  const size = Buffer.byteLength(text)
  const buffer = frames?.take(before + size + after) ?? Buffer.allocUnsafe(before + size + after)
  buffer.write(text, before)
  return { room: new Room(buffer, () => frames?.give(buffer)), payload: buffer.subarray(before, before + size) }
}

/** Bytes with free room around them as a message. `giveBack` returns their memory. */
export const wrap = (payload: Buffer, giveBack: () => void): Message => {
  const { before, after } = roomAround
  const buffer = Buffer.from(payload.buffer, payload.byteOffset - before, before + payload.byteLength + after)
  return { room: new Room(buffer, giveBack), payload }
}

const drop = (reason: DropReason, message: string): Either.Either<never, Drop> => Either.left({ reason, message })

/** The drop of a text message. */
export const textDrop: Drop = { reason: "text", message: "relay message frames are binary, this message is text" }

const isStreamId = (id: string) => id !== "" && id.trim() === id && Buffer.byteLength(id) <= maxStreamIdBytes

const parse = (bytes: Uint8Array): RelayMessageFrame | undefined => {
  try {
    return fromBinary(RelayMessageFrameSchema, bytes, { readUnknownFields: false })
  } catch {
    return undefined
  }
}

const decodeBody = (body: RelayMessageFrame["body"], size: number): Either.Either<Body, Drop> => {
  switch (body.case) {
    case "data": {
      const { seq, segmentIndex: index, segmentCount: count, payload } = body.value
      if (count === 0 || index >= count) {
        return drop("segment", `relay data frame has segment ${index} of ${count}`)
      }
      if (payload.byteLength === 0) return drop("emptyPayload", "relay data frame has an empty payload")
      // A small payload is copied: a view would keep the whole received buffer in memory.
      const own = payload.byteLength * 2 < size ? new Uint8Array(payload) : payload
      return Either.right({ _tag: "Data", seq, index, count, payload: own })
    }
    case "ackFrame":
      return Either.right({ _tag: "Ack" })
    case "resume":
      return Either.right({ _tag: "Resume", nextSeq: body.value.nextSeq })
    case "reset": {
      const { reason } = body.value
      const bytes = Buffer.byteLength(reason)
      return bytes === 0 || bytes > maxResetReasonBytes
        ? drop("resetReason", `relay reset frame has a reason of ${bytes} bytes`)
        : Either.right({ _tag: "Reset", reason })
    }
    case "heartbeat":
      return Either.right({ _tag: "Heartbeat" })
    case "handshake":
      return drop("handshake", "relay handshake frames belong to the encrypted variant, which is not spoken here")
    case undefined:
      return drop("body", "relay message frame has no body")
  }
}

/** Decodes a frame. Never throws. */
export const decode = (bytes: Uint8Array): Either.Either<Frame, Drop> => {
  const frame = parse(bytes)
  if (frame === undefined) return drop("undecodable", "relay message frame does not decode")
  if (frame.version !== version) return drop("version", `unsupported relay message frame version ${frame.version}`)
  const { streamId, ack, ackBits, reliable, acknowledged } = frame
  if (streamId === "") return drop("streamId", "relay message frame is missing stream_id")
  if (!isStreamId(streamId)) return drop("streamId", "relay message frame has an invalid stream_id")
  return Either.map(decodeBody(frame.body, bytes.byteLength), (body) => ({
    streamId,
    ack,
    ackBits,
    reliable,
    acknowledged,
    body
  }))
}

// The field numbers of RelayMessageFrame, and of the last field of RelayData.
const field = { version: 1, streamId: 2, ack: 3, ackBits: 4, data: 5, reset: 8, handshake: 10, reliable: 100 } as const
const payloadField = 4

const encodeBody = (body: Exclude<Body, { readonly _tag: "Data" }>): RelayMessageFrame["body"] => {
  switch (body._tag) {
    case "Ack":
      return { case: "ackFrame", value: create(RelayAckSchema) }
    case "Resume":
      return { case: "resume", value: create(RelayResumeSchema, { nextSeq: body.nextSeq }) }
    case "Reset":
      return { case: "reset", value: create(RelayResetSchema, { reason: body.reason }) }
    case "Heartbeat":
      return { case: "heartbeat", value: create(RelayHeartbeatSchema) }
  }
}

const varint = (bytes: Array<number>, value: number) => {
  let left = value
  for (; left > 0x7f; left >>>= 7) bytes.push((left & 0x7f) | 0x80)
  bytes.push(left)
}

const number = (bytes: Array<number>, at: number, value: number) => {
  if (value === 0) return
  varint(bytes, (at << 3) | WireType.Varint)
  varint(bytes, value)
}

const lengthDelimited = (bytes: Array<number>, at: number, length: number) => {
  varint(bytes, (at << 3) | WireType.LengthDelimited)
  varint(bytes, length)
}

/** Writes numbers to a buffer as bytes; returns the end offset. */
const put = (buffer: Buffer, start: number, bytes: ReadonlyArray<number>) => {
  let end = start
  for (const byte of bytes) buffer[end++] = byte
  return end
}

/**
 * Nearly all frames are large data frames: their payload is copied once, or not at all. Their fields are encoded
 * without the library's writer, whose typed arrays cause much garbage collection.
 */
const encodeData = ({ streamId, ack, ackBits, reliable, acknowledged }: Frame, segment: Segment): Uint8Array => {
  const { seq, index, count, payload, room } = segment
  const idBytes = Buffer.byteLength(streamId)
  const first: Array<number> = []
  const second: Array<number> = []
  const beforePayload: Array<number> = []
  const tail: Array<number> = []
  number(first, field.version, version)
  lengthDelimited(first, field.streamId, idBytes)
  number(beforePayload, 1, seq)
  number(beforePayload, 2, index)
  number(beforePayload, 3, count)
  lengthDelimited(beforePayload, payloadField, payload.byteLength)
  number(second, field.ack, ack)
  number(second, field.ackBits, ackBits)
  lengthDelimited(second, field.data, beforePayload.length + payload.byteLength)
  number(tail, field.reliable, Number(reliable))
  number(tail, field.reliable + 1, Number(acknowledged))
  const headBytes = first.length + idBytes + second.length + beforePayload.length
  const buffer = room?.buffer ?? Buffer.allocUnsafe(headBytes + payload.byteLength + tail.length)
  const payloadStart = room === undefined ? headBytes : roomAround.before
  const payloadEnd = payloadStart + payload.byteLength
  if (room === undefined) buffer.set(payload, payloadStart)
  const start = payloadStart - headBytes
  let at = put(buffer, start, first)
  at += buffer.write(streamId, at)
  put(buffer, put(buffer, at, second), beforePayload)
  return buffer.subarray(start, put(buffer, payloadEnd, tail))
}

/** Encodes a frame. Fields with their default value take no bytes. */
export const encode = (frame: Frame): Uint8Array => {
  const { streamId, ack, ackBits, reliable, acknowledged, body } = frame
  if (body._tag === "Data") return encodeData(frame, body)
  return toBinary(
    RelayMessageFrameSchema,
    create(RelayMessageFrameSchema, {
      version,
      streamId,
      ack,
      ackBits,
      reliable,
      acknowledged,
      body: encodeBody(body)
    })
  )
}

/** The reason, truncated to the limit of a reset; never empty. */
export const fitReason = (reason: string): string => {
  let fit = reason === "" ? "closed" : reason.slice(0, maxResetReasonBytes)
  while (Buffer.byteLength(fit) > maxResetReasonBytes) fit = fit.slice(0, -1)
  // A lone surrogate becomes U+FFFD.
  return Buffer.from(fit).toString()
}

/** A reset frame for an unknown stream. */
export const encodeReset = (streamId: string, reason: string): Uint8Array =>
  encode({
    streamId,
    ack: 0,
    ackBits: 0,
    reliable: false,
    acknowledged: false,
    body: { _tag: "Reset", reason: fitReason(reason) }
  })

/** The fields of a frame that a router needs. */
export interface Route {
  readonly streamId: string
  readonly isReset: boolean
}

/** Decodes the fields that a router needs, and skips the rest. Never throws. */
export const route = (bytes: Uint8Array): Either.Either<Route, Drop> => {
  let found = 0
  let streamId = ""
  let body = 0
  try {
    const reader = new BinaryReader(bytes)
    while (reader.pos < reader.len) {
      const [at, type] = reader.tag()
      if (at === field.version && type === WireType.Varint) found = reader.uint32()
      else if (at === field.streamId && type === WireType.LengthDelimited) streamId = reader.string(true)
      else {
        if (at >= field.data && at <= field.handshake) body = at
        reader.skip(type, at)
      }
    }
  } catch {
    return drop("undecodable", "relay message frame does not decode")
  }
  if (found !== version) return drop("version", `unsupported relay message frame version ${found}`)
  if (!isStreamId(streamId)) return drop("streamId", "relay message frame has no valid stream_id")
  if (body === 0) return drop("body", "relay message frame has no body")
  return Either.right({ streamId, isReset: body === field.reset })
}
