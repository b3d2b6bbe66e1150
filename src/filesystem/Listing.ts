/**
 * The names in a directory.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { Dirent } from "node:fs"
import { opendir } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type { NativePath } from "./NativePath.js"
import { attempt, type SystemError } from "./SystemError.js"

/** What a name is, itself: a link is not followed. */
export type Kind = "file" | "directory" | "link" | "other"

/** One name. */
export interface Entry {
  readonly name: Buffer
  readonly kind: Kind
}

/** Names of a directory, in no order. */
export interface Listing {
  readonly entries: ReadonlyArray<Entry>
  /** Whether these are all. */
  readonly complete: boolean
}

/** How many names one call of the system gives. */
const bufferSize = 1024

/** What an entry takes in memory beside its name, in bytes, roughly. */
const entryBytes = 128

const kindOf = (entry: Dirent<Buffer>): Kind => {
  if (entry.isFile()) return "file"
  if (entry.isDirectory()) return "directory"
  return entry.isSymbolicLink() ? "link" : "other"
}

const listAll = async (path: NativePath, maxBytes: number, signal: AbortSignal): Promise<Listing> => {
  // The types know no directory whose names are bytes; the system does.
  const directory = await opendir(path, { encoding: "buffer" as BufferEncoding, bufferSize })
  const entries: Array<Entry> = []
  let size = 0
  // Closes the directory, however it ends.
  for await (const entry of directory as AsyncIterable<unknown> as AsyncIterable<Dirent<Buffer>>) {
    size += entry.name.length + entryBytes
    if (size > maxBytes || signal.aborted) return { entries, complete: false }
    entries.push({ name: entry.name, kind: kindOf(entry) })
  }
  return { entries, complete: true }
}

/** Lists a directory as far as the names fit into so many bytes of memory. */
export const list = (path: NativePath, maxBytes: number): Effect.Effect<Listing, SystemError> =>
  Effect.flatMap(
    Effect.sync(() => new AbortController()),
    (controller) =>
      attempt(() => listAll(path, maxBytes, controller.signal)).pipe(
        Effect.onInterrupt(() => Effect.sync(() => controller.abort()))
      )
  )
