/**
 * Lists directory trees, breadth first.
 *
 * @since 0.1.0
 */
import { lstat, stat } from "node:fs/promises"
import * as Effect from "effect/Effect"
import { FileRefused } from "../protocol/Failure.js"
import { maxWalk, type WalkOptions } from "../protocol/FileSystemApi.js"
import * as Listing from "./Listing.js"
import { join, type NativePath } from "./NativePath.js"
import { attempt, ofCode, optionOf, type SystemError } from "./SystemError.js"

/** The result of a walk. */
export interface WalkResult {
  readonly entries: ReadonlyArray<{ readonly path: NativePath; readonly kind: "file" | "directory" }>
  readonly errors: ReadonlyArray<{ readonly path: NativePath; readonly message: string }>
  readonly truncated: boolean
}

/** The limit on the total length of the paths in a result, in bytes. Beyond it the walk is truncated. */
const maxPathBytes = 8_388_608

/** The memory limit of the listing of one directory, in bytes; about half a million names. */
const listBytes = 100_000_000

/** Directories read concurrently; Node.js has four threads for file operations. */
const readAhead = 4

const dot = 0x2e

/** Refuses limits that are 0 or above `maxWalk`. */
export const checkLimits = (options: WalkOptions): Effect.Effect<void, FileRefused> => {
  const { maxDepth, maxDirectories, maxEntries } = options
  if (maxDirectories === 0 || maxEntries === 0) {
    return new FileRefused({ message: "filesystem walk limits must be greater than zero" })
  }
  const isWithin =
    maxDepth <= maxWalk.maxDepth && maxDirectories <= maxWalk.maxDirectories && maxEntries <= maxWalk.maxEntries
  if (isWithin) return Effect.void
  const maxima = `depth=${maxWalk.maxDepth}, directories=${maxWalk.maxDirectories}, entries=${maxWalk.maxEntries}`
  return new FileRefused({ message: `filesystem walk limits exceed maximums: ${maxima}` })
}

/** A directory to read. */
interface Step {
  readonly path: NativePath
  readonly depth: number
}

/** An entry to report. `identity` is empty unless it is a directory and links are followed. */
interface Child {
  readonly path: NativePath
  readonly isHidden: boolean
  readonly kind: "file" | "directory"
  readonly identity: string
}

/** Empty for a dangling link. */
const identify = (path: NativePath) =>
  optionOf(
    Effect.map(
      attempt(() => stat(path, { bigint: true })),
      (found) => ({ isDirectory: found.isDirectory(), identity: `${found.dev}:${found.ino}` })
    )
  )

/** The entries of a directory, sorted by name. */
const childrenOf = (path: NativePath, follow: boolean): Effect.Effect<ReadonlyArray<Child>, SystemError> =>
  Effect.gen(function* () {
    const { entries, complete } = yield* Listing.list(path, listBytes)
    if (!complete) return yield* ofCode("EOVERFLOW")
    const named = entries.flatMap(({ name, kind }) =>
      kind === "other" ? [] : [{ name, kind, key: name.toString("latin1") }]
    )
    // latin1 keys sort like the bytes.
    named.sort((a, b) => (a.key < b.key ? -1 : 1))
    const children: Array<Child> = []
    for (const { name, kind } of named) {
      const child = { path: join(path, name), isHidden: name[0] === dot }
      if (kind === "file") children.push({ ...child, kind, identity: "" })
      else if (!follow) {
        if (kind === "directory") children.push({ ...child, kind, identity: "" })
      } else {
        const found = yield* identify(child.path)
        if (found._tag === "Some" && found.value.isDirectory) {
          children.push({ ...child, kind: "directory", identity: found.value.identity })
        }
      }
    }
    return children
  })

/** Lists everything below a directory. A root that is not a directory gives an empty result. */
export const walk = (root: NativePath, options: WalkOptions): Effect.Effect<WalkResult, SystemError | FileRefused> =>
  Effect.gen(function* () {
    yield* checkLimits(options)
    const { maxDepth, maxDirectories, maxEntries, followDirectorySymlinks: follow, pruneHiddenDirectories } = options
    const entries: Array<{ path: NativePath; kind: "file" | "directory" }> = []
    const errors: Array<{ path: NativePath; message: string }> = []
    const found = yield* attempt(() => (follow ? stat(root, { bigint: true }) : lstat(root, { bigint: true })))
    if (!found.isDirectory()) return { entries, errors, truncated: false }

    const seen = new Set([`${found.dev}:${found.ino}`])
    let level: Array<Step> = [{ path: root, depth: 0 }]
    let directories = 0
    let pathBytes = 0

    /** Adds the entries of one directory; false if they exceed a limit. */
    const add = (children: ReadonlyArray<Child>, depth: number, next: Array<Step>): boolean => {
      for (const { path, kind, identity, isHidden } of children) {
        pathBytes += path.length
        if (entries.length >= maxEntries || pathBytes > maxPathBytes) return false
        entries.push({ path, kind })
        if (kind === "file" || depth >= maxDepth || (isHidden && pruneHiddenDirectories)) continue
        if (follow && seen.has(identity)) continue
        seen.add(identity)
        next.push({ path, depth: depth + 1 })
      }
      return true
    }

    while (level.length > 0) {
      const next: Array<Step> = []
      for (let i = 0; i < level.length; i += readAhead) {
        const steps = level.slice(i, Math.min(i + readAhead, i + maxDirectories - directories))
        const listings = yield* Effect.forEach(steps, ({ path }) => Effect.either(childrenOf(path, follow)), {
          concurrency: readAhead
        })
        for (const [index, listing] of listings.entries()) {
          const { path, depth } = steps[index] ?? { path: root, depth: 0 }
          directories++
          if (listing._tag === "Left") {
            // The root must be readable; errors below it are part of the result.
            if (directories === 1) return yield* listing.left
            errors.push({ path, message: listing.left.message })
          } else if (!add(listing.right, depth, next)) return { entries, errors, truncated: true }
        }
        if (steps.length < Math.min(readAhead, level.length - i)) return { entries, errors, truncated: true }
      }
      level = next
    }
    return { entries, errors, truncated: false }
  })
