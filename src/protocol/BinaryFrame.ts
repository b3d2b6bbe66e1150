/**
 * Process output as a binary frame (ours). Numbers are big-endian.
 *
 * | bytes | field |
 * |---|---|
 * | 1 | kind: 1 is output |
 * | 1 | stream: 1 stdout, 2 stderr, 3 pty |
 * | 2 | n, the length of the processId in bytes |
 * | n | processId, UTF-8 |
 * | 8 | seq |
 * | rest | the output |
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as Either from "effect/Either"
import { kind as attachmentKind } from "./AttachmentFrame.js"
import { ProcessId } from "./Ids.js"
import type { OutputStream } from "./ProcessSchemas.js"

/**
 * A decoded frame: one chunk of process output.
 *
 * @category models
 */
export interface Output {
  readonly processId: ProcessId
  readonly seq: number
  readonly stream: OutputStream
  readonly chunk: Buffer
}

const outputKind = 1

const streams = ["stdout", "stderr", "pty"] as const

/** The length of the fields before the processId. */
const headBytes = 4

const seqBytes = 8

const maxIdBytes = 65535

/**
 * Encodes a processId for frames; undefined if it is longer than 65535 bytes.
 *
 * @category codecs
 */
export const encodeId = (processId: ProcessId): Buffer | undefined => {
  const bytes = Buffer.from(processId)
  return bytes.length > maxIdBytes ? undefined : bytes
}

/**
 * Whether a message is a binary frame, on a transport that does not mark messages as text or binary (the relay). JSON
 * text never begins with the byte 1 or 2.
 *
 * @category predicates
 */
export const isFrame = (message: Uint8Array): boolean => message[0] === outputKind || message[0] === attachmentKind

/**
 * The length of a frame, in bytes.
 *
 * @category codecs
 */
export const lengthOf = (id: Buffer, chunk: Buffer): number => headBytes + id.length + seqBytes + chunk.length

/**
 * Writes a frame to the start of a buffer of at least `lengthOf(id, chunk)` bytes; copies the chunk.
 *
 * @category codecs
 */
export const write = (frame: Buffer, id: Buffer, seq: number, stream: OutputStream, chunk: Buffer): void => {
  const start = headBytes + id.length + seqBytes
  frame[0] = outputKind
  frame[1] = streams.indexOf(stream) + 1
  frame.writeUInt16BE(id.length, 2)
  id.copy(frame, headBytes)
  // Two 32-bit halves: writeBigUInt64BE would need a BigInt for each frame. Exact up to 2^53.
  frame.writeUInt32BE(Math.floor(seq / 2 ** 32), headBytes + id.length)
  frame.writeUInt32BE(seq % 2 ** 32, headBytes + id.length + 4)
  chunk.copy(frame, start)
}

/**
 * Encodes a frame in a new buffer; copies the chunk.
 *
 * @category codecs
 */
export const encode = (id: Buffer, seq: number, stream: OutputStream, chunk: Buffer): Buffer => {
  const frame = Buffer.allocUnsafe(lengthOf(id, chunk))
  write(frame, id, seq, stream, chunk)
  return frame
}

/**
 * Decodes a frame; Left is a sentence that says what is wrong with it. The chunk is a view of the frame, not a copy.
 *
 * @category codecs
 */
export const decode = (frame: Buffer): Either.Either<Output, string> => {
  if (frame.length < headBytes) return Either.left("the frame is too short")
  if (frame[0] !== outputKind) return Either.left(`unknown kind ${frame[0]}`)
  const stream = streams[(frame[1] ?? 0) - 1]
  if (stream === undefined) return Either.left(`unknown stream ${frame[1]}`)
  const end = headBytes + frame.readUInt16BE(2)
  if (frame.length < end + seqBytes) return Either.left("the frame is too short")
  const id = frame.subarray(headBytes, end)
  if (!isUtf8(id)) return Either.left("the processId is not valid UTF-8")
  const seq = frame.readUInt32BE(end) * 2 ** 32 + frame.readUInt32BE(end + 4)
  if (!Number.isSafeInteger(seq)) return Either.left("the seq is too large")
  return Either.right({
    processId: ProcessId.make(id.toString()),
    seq,
    stream,
    chunk: frame.subarray(end + seqBytes)
  })
}
