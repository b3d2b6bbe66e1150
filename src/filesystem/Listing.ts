/**
 * Lists the names in a directory.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { Dirent } from "node:fs"
import { opendir } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type { NativePath } from "./NativePath.js"
import { attempt, type Progress, type SystemError } from "./SystemError.js"

/** The type of an entry; links are not followed. */
export type Kind = "file" | "directory" | "link" | "other"

/** One directory entry. */
export interface Entry {
  readonly name: Buffer
  readonly kind: Kind
}

/** Entries of a directory, unsorted. */
export interface Listing {
  readonly entries: ReadonlyArray<Entry>
  /** False if the memory limit cut the listing short. */
  readonly complete: boolean
}

/** Entries per call into libuv. */
const bufferSize = 1024

/** The approximate memory of an entry besides its name, in bytes. */
const entryBytes = 128

const kindOf = (entry: Dirent<Buffer>): Kind => {
  if (entry.isFile()) return "file"
  if (entry.isDirectory()) return "directory"
  return entry.isSymbolicLink() ? "link" : "other"
}

const listAll = async (
  path: NativePath,
  maxBytes: number,
  signal: AbortSignal,
  progress: Progress
): Promise<Listing> => {
  // Node.js accepts "buffer" here; its types do not.
  const directory = await opendir(path, { encoding: "buffer" as BufferEncoding, bufferSize })
  const entries: Array<Entry> = []
  let size = 0
  // The loop closes the directory, even if it is left early.
  for await (const entry of directory as AsyncIterable<unknown> as AsyncIterable<Dirent<Buffer>>) {
    progress()
    size += entry.name.length + entryBytes
    if (size > maxBytes || signal.aborted) return { entries, complete: false }
    entries.push({ name: entry.name, kind: kindOf(entry) })
  }
  return { entries, complete: true }
}

/** Lists a directory, up to `maxBytes` of memory. */
export const list = (path: NativePath, maxBytes: number): Effect.Effect<Listing, SystemError> =>
  Effect.flatMap(
    Effect.sync(() => new AbortController()),
    (controller) =>
      attempt((progress) => listAll(path, maxBytes, controller.signal, progress)).pipe(
        Effect.onInterrupt(() => Effect.sync(() => controller.abort()))
      )
  )
