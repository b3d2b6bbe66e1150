/**
 * Process output as a binary frame (ours): one byte of kind (1), one of stream (1 stdout, 2 stderr, 3 pty), two with the
 * length of the processId, the processId, eight with the seq, then the bytes. Numbers are big-endian.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import * as Either from "effect/Either"
import type { OutputStream } from "./ExecApi.js"
import { ProcessId } from "./Ids.js"

/** What a frame holds. */
export interface Output {
  readonly processId: ProcessId
  readonly seq: number
  readonly stream: OutputStream
  readonly chunk: Buffer
}

const outputKind = 1

const streams = ["stdout", "stderr", "pty"] as const

/** Kind, stream and length, before the processId. */
const headBytes = 4

const seqBytes = 8

const maxIdBytes = 65535

/** A processId as it stands in frames; undefined for one that is too long to. */
export const encodeId = (processId: ProcessId): Buffer | undefined => {
  const bytes = Buffer.from(processId)
  return bytes.length > maxIdBytes ? undefined : bytes
}

/** Whether a message is a frame, where text and frames come the same way: no JSON text begins with a control character. */
export const isFrame = (message: Uint8Array): boolean => message[0] === outputKind

/** The length of a frame. */
export const lengthOf = (id: Buffer, chunk: Buffer): number => headBytes + id.length + seqBytes + chunk.length

/** Writes a frame to the beginning of a buffer with room for it; the chunk is copied. */
export const write = (frame: Buffer, id: Buffer, seq: number, stream: OutputStream, chunk: Buffer): void => {
  const start = headBytes + id.length + seqBytes
  frame[0] = outputKind
  frame[1] = streams.indexOf(stream) + 1
  frame.writeUInt16BE(id.length, 2)
  id.copy(frame, headBytes)
  // Both halves of a number that is exact up to 2^53.
  frame.writeUInt32BE(Math.floor(seq / 2 ** 32), headBytes + id.length)
  frame.writeUInt32BE(seq % 2 ** 32, headBytes + id.length + 4)
  chunk.copy(frame, start)
}

/** A frame; the chunk is copied. */
export const encode = (id: Buffer, seq: number, stream: OutputStream, chunk: Buffer): Buffer => {
  const frame = Buffer.allocUnsafe(lengthOf(id, chunk))
  write(frame, id, seq, stream, chunk)
  return frame
}

/** Reads a frame, or says what is wrong with it. The chunk is part of it, not a copy. */
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
