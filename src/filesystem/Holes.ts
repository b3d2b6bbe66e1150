/**
 * The holes of sparse files: skipped when reading, and left when writing.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { FileHandle } from "node:fs/promises"
import * as Posix from "../spawn/Posix.js"

/** The position of the next data, at `from` or after it; undefined if only a hole follows. */
export const nextData = (file: FileHandle, from: number): Promise<number | undefined> => Posix.nextData(file.fd, from)

/** The size of the blocks that are left out if they are zeros, in bytes. */
const blockBytes = 65536

const zeros = Buffer.alloc(blockBytes)

/** The end of the run of equal blocks from `start`: all of them zeros, or all of them data. */
const runEnd = (bytes: Buffer, start: number): { readonly end: number; readonly isHole: boolean } => {
  const isHoleAt = (at: number) => {
    const length = Math.min(blockBytes, bytes.length - at)
    return bytes.compare(zeros, 0, length, at, at + length) === 0
  }
  const isHole = isHoleAt(start)
  let end = start + blockBytes
  while (end < bytes.length && isHoleAt(end) === isHole) end += blockBytes
  return { end: Math.min(end, bytes.length), isHole }
}

/** Writes all bytes at a position. */
export const writeAll = async (to: FileHandle, bytes: Buffer, position: number) => {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await to.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}

/** Writes the blocks that are not all zeros. */
export const writeSparse = async (to: FileHandle, bytes: Buffer, position: number) => {
  for (let at = 0; at < bytes.length; ) {
    const { end, isHole } = runEnd(bytes, at)
    if (!isHole) await writeAll(to, bytes.subarray(at, end), position + at)
    at = end
  }
}
