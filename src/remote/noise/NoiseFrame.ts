/**
 * Frames of the encrypted relay: those of the plain one, with handshakes, and with sealed records as their data. Whoever
 * forwards them sees the stream's id, the kind of the frame and its length.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { type RelayMessageFrame, RelayMessageFrameSchema } from "../gen/relay_pb.js"
import { fitReason, version } from "../RelayFrame.js"

/**
 * The body of a frame. `Ack`: the other side has consumed all records up to this one, and reads records with plaintexts
 * up to `maxBytes`; the original sends none, and ignores them. `Other`: resumes and heartbeats, which mean nothing here.
 */
export type Body =
  | { readonly _tag: "Handshake"; readonly payload: Buffer }
  | { readonly _tag: "Record"; readonly seq: number; readonly payload: Buffer }
  | { readonly _tag: "Reset"; readonly reason: string }
  | { readonly _tag: "Ack"; readonly seq: number; readonly maxBytes: number }
  | { readonly _tag: "Other" }

/** One frame of one stream. */
export interface Frame {
  readonly streamId: string
  readonly body: Body
}

/** The longest frame that an executor accepts, in bytes. */
export const maxFrameBytes = 262144

/** The longest stream id, in bytes. The original has no limit, and makes ids of 36. */
export const maxStreamIdBytes = 1024

const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const parse = (bytes: Uint8Array): RelayMessageFrame | undefined => {
  try {
    return fromBinary(RelayMessageFrameSchema, bytes, { readUnknownFields: false })
  } catch {
    return undefined
  }
}

const bodyOf = ({ ack, ackBits, body }: RelayMessageFrame): Body | string => {
  switch (body.case) {
    case "handshake":
      return body.value.payload.length === 0
        ? "the handshake is empty"
        : { _tag: "Handshake", payload: view(body.value.payload) }
    case "data": {
      const { seq, segmentIndex, segmentCount, payload } = body.value
      if (segmentIndex !== 0 || segmentCount !== 1) return "the record is in segments"
      return payload.length === 0 ? "the record is empty" : { _tag: "Record", seq, payload: view(payload) }
    }
    case "reset":
      return { _tag: "Reset", reason: fitReason(body.value.reason) }
    case "ackFrame":
      return { _tag: "Ack", seq: ack, maxBytes: ackBits }
    case undefined:
      return "the frame has no body"
    default:
      return { _tag: "Other" }
  }
}

/** Decodes a frame; a text says why it is dropped. Never throws. */
export const decode = (bytes: Uint8Array): Frame | string => {
  const frame = parse(bytes)
  if (frame === undefined) return "the frame does not decode"
  if (frame.version !== version) return `the version of the frame is ${frame.version}, not ${version}`
  if (frame.streamId.trim() === "") return "the frame has no stream id"
  if (Buffer.byteLength(frame.streamId) > maxStreamIdBytes) {
    return `the stream id is longer than ${maxStreamIdBytes} bytes`
  }
  const body = bodyOf(frame)
  return typeof body === "string" ? body : { streamId: frame.streamId, body }
}

const encode = (streamId: string, body: NonNullable<Parameters<typeof create<typeof RelayMessageFrameSchema>>[1]>) =>
  toBinary(RelayMessageFrameSchema, create(RelayMessageFrameSchema, { version, streamId, ...body }))

/** Announces a stream. */
export const resume = (streamId: string): Uint8Array => encode(streamId, { body: { case: "resume", value: {} } })

/** A message of the handshake. */
export const handshake = (streamId: string, payload: Uint8Array): Uint8Array =>
  encode(streamId, { body: { case: "handshake", value: { payload } } })

/** Tells that all records up to this one were consumed, and how long the plaintext of a record may be, in bytes. */
export const ack = (streamId: string, seq: number, maxBytes: number): Uint8Array =>
  encode(streamId, { ack: seq, ackBits: maxBytes, body: { case: "ackFrame", value: {} } })

/** Ends a stream. */
export const reset = (streamId: string, reason: string): Uint8Array =>
  encode(streamId, { body: { case: "reset", value: { reason: fitReason(reason) } } })

const varintBytes = (value: number): number => (value < 0x80 ? 1 : 1 + varintBytes(Math.floor(value / 0x80)))

const writeVarint = (buffer: Buffer, start: number, value: number): number => {
  let at = start
  let left = value
  for (; left > 0x7f; left = Math.floor(left / 0x80)) buffer[at++] = (left & 0x7f) | 0x80
  buffer[at++] = left
  return at
}

/**
 * A sealed record, given in parts. Nearly all frames are records, hence no general encoder: the parts are copied once, to
 * the memory that `allocate` returns, which may be longer.
 */
export const record = (
  streamId: string,
  seq: number,
  parts: ReadonlyArray<Uint8Array>,
  allocate: (bytes: number) => Buffer = Buffer.allocUnsafe
): Buffer => {
  const size = parts.reduce((sum, part) => sum + part.byteLength, 0)
  const idBytes = Buffer.byteLength(streamId)
  const dataBytes = (seq === 0 ? 0 : 1 + varintBytes(seq)) + 2 + 1 + varintBytes(size) + size
  const headBytes = 2 + 1 + varintBytes(idBytes) + idBytes
  const frame = allocate(headBytes + 1 + varintBytes(dataBytes) + dataBytes)
  frame[0] = 0x08
  frame[1] = version
  frame[2] = 0x12
  let at = writeVarint(frame, 3, idBytes)
  at += frame.write(streamId, at)
  frame[at++] = 0x2a
  at = writeVarint(frame, at, dataBytes)
  if (seq !== 0) {
    frame[at++] = 0x08
    at = writeVarint(frame, at, seq)
  }
  frame[at++] = 0x18
  frame[at++] = 1
  frame[at++] = 0x22
  at = writeVarint(frame, at, size)
  for (const part of parts) {
    frame.set(part, at)
    at += part.byteLength
  }
  return frame.subarray(0, at)
}
