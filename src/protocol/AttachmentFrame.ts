/**
 * Output of an attachment as a binary frame (ours). Numbers are big-endian.
 *
 * | bytes | field |
 * |---|---|
 * | 1 | kind: 2 is output of an attachment |
 * | 1 | stream: 1 stdout, 2 stderr, 3 pty |
 * | 4 | attachmentId |
 * | 8 | seq |
 * | rest | the output |
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import type { OutputStream } from "./ProcessSchemas.js"

/**
 * A decoded frame: one chunk of output.
 *
 * @category models
 */
export interface Output {
  readonly attachmentId: number
  readonly seq: number
  readonly stream: OutputStream
  readonly chunk: Buffer
}

/**
 * The first byte of such a frame.
 *
 * @category constants
 */
export const kind = 2

const streams = ["stdout", "stderr", "pty"] as const

/** The length of the fields before the output. */
const headBytes = 14

/**
 * The length of a frame, in bytes.
 *
 * @category codecs
 */
export const lengthOf = (chunk: Buffer): number => headBytes + chunk.length

/**
 * Writes a frame to the start of a buffer of at least `lengthOf(chunk)` bytes; copies the chunk.
 *
 * @category codecs
 */
export const write = (frame: Buffer, { attachmentId, seq, stream, chunk }: Output): void => {
  frame[0] = kind
  frame[1] = streams.indexOf(stream) + 1
  frame.writeUInt32BE(attachmentId, 2)
  // Two 32-bit halves, exact up to 2^53.
  frame.writeUInt32BE(Math.floor(seq / 2 ** 32), 6)
  frame.writeUInt32BE(seq % 2 ** 32, 10)
  chunk.copy(frame, headBytes)
}

/**
 * Decodes a frame; Left is a sentence that says what is wrong with it. The chunk is a view of the frame, not a copy.
 *
 * @category codecs
 */
export const decode = (frame: Buffer): Either.Either<Output, string> => {
  if (frame.length < headBytes) return Either.left("the frame is too short")
  if (frame[0] !== kind) return Either.left(`unknown kind ${frame[0]}`)
  const stream = streams[(frame[1] ?? 0) - 1]
  if (stream === undefined) return Either.left(`unknown stream ${frame[1]}`)
  const seq = frame.readUInt32BE(6) * 2 ** 32 + frame.readUInt32BE(10)
  if (!Number.isSafeInteger(seq)) return Either.left("the seq is too large")
  return Either.right({ attachmentId: frame.readUInt32BE(2), seq, stream, chunk: frame.subarray(headBytes) })
}
