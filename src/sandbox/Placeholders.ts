/**
 * Empty directories at missing paths that a sandbox forbids to create. A mount needs an existing mount point, so the
 * directory exists while a confined process runs: one directory for all sandboxes of all servers of this user.
 *
 * @since 0.1.0
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  type Stats
} from "node:fs"
import { basename, dirname } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ImageWriter } from "../internal/Image.js"
import * as OsError from "../protocol/OsError.js"
import { SpawnError } from "../spawn/Child.js"
import type { PlaceholderState } from "../spawn/ChildState.js"
import { Guard } from "../spawn/Guard.js"
import * as Posix from "../spawn/Posix.js"
import { openExactly } from "./ExactPath.js"

/** Creates and removes placeholders. */
export interface Shape {
  /**
   * Creates the placeholders at `paths`, or shares existing ones, and returns their release. Paths in `mounted` that
   * are placeholders of another confinement are shared as well: the mount plan took them for real directories. Throws
   * `SpawnError`.
   */
  readonly hold: (paths: ReadonlyArray<string>, mounted: ReadonlyArray<string>) => () => void
  /** Whether a directory is a placeholder, also of another server. False once it is no longer empty. */
  readonly has: (path: string) => boolean
  /** The placeholders that are held. Their descriptors stay open, and so their locks stay. */
  readonly freeze: (writer: ImageWriter) => ReadonlyArray<PlaceholderState>
  /** Keeps those of the version of the server before, for calls of `hold` until `releaseOthers`. */
  readonly restore: (placeholders: ReadonlyArray<PlaceholderState>) => void
  /** Removes those that were restored and are not held. */
  readonly releaseOthers: () => void
}

/** Acts in the directory that was resolved, even if a link has since replaced it. */
const inParent = <A>(path: string, use: (path: string) => A): A => {
  const parent = openExactly(dirname(path))
  try {
    return use(`/proc/self/fd/${parent}/${basename(path)}`)
  } finally {
    closeSync(parent)
  }
}

/** The result of a system call; undefined if it fails with this code. */
const attemptUnless = <A>(code: string, call: () => A): A | undefined => {
  try {
    return call()
  } catch (error) {
    if (OsError.codeOf(error) === code) return undefined
    throw error
  }
}

/**
 * The permissions of a placeholder. The sticky bit means nothing in a directory that only its owner can write, so it
 * tells other servers of the same user what the directory is.
 */
const permissions = 0o755
const sticky = 0o1000
const sharedWrite = 0o022

const isMarked = ({ mode, uid }: Stats) =>
  (mode & constants.S_IFMT) === constants.S_IFDIR &&
  (mode & sticky) !== 0 &&
  (mode & sharedWrite) === 0 &&
  uid === process.geteuid?.()

const isPlaceholder = (path: string): boolean => {
  try {
    return isMarked(lstatSync(path)) && readdirSync(path).length === 0
  } catch {
    return false
  }
}

/** How often another server may be found to be removing the same placeholder. */
const maxAttempts = 1000

/**
 * Creates or finds a placeholder and locks it, shared with other servers; undefined if it is just being removed. The
 * mount of a running sandbox goes with its mount point, so nobody removes one that another server has locked.
 */
const lock = (here: string): number | undefined => {
  const isNew = attemptUnless("EEXIST", () => {
    mkdirSync(here, sticky | permissions)
    return true
  })
  const fd = attemptUnless("ENOENT", () =>
    openSync(here, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  )
  if (fd === undefined) return undefined
  try {
    // Unconfined programs may have used the directory, for example to create a repository.
    if (isNew === undefined && !isPlaceholder(here)) throw Object.assign(new Error("file exists"), { code: "EEXIST" })
    const found = Posix.lock(fd, "shared") ? lstatSync(here, { throwIfNoEntry: false }) : undefined
    if (found?.ino === fstatSync(fd).ino) return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
  closeSync(fd)
  return undefined
}

/** Removes a placeholder, unless another server has locked it, or a program has used it. */
const remove = (path: string, fd: number) => {
  try {
    inParent(path, (here) => {
      if (!Posix.lock(fd, "exclusive")) return
      if (readdirSync(here).length === 0) rmdirSync(here)
      else fchmodSync(fd, fstatSync(fd).mode & 0o777)
    })
  } catch {
    // Another program has removed it.
  } finally {
    closeSync(fd)
  }
}

const make = ({ addFolder, removeFolder, restoreFolder }: Guard["Type"]): Shape => {
  const held = new Map<string, { readonly fd: number; holders: number }>()

  const open = (path: string): number => {
    try {
      return inParent(path, (here) => {
        for (let attempt = 0; attempt < maxAttempts; attempt++) {
          const fd = lock(here)
          if (fd !== undefined) return fd
        }
        throw Object.assign(new Error("another process has locked it"), { code: "EBUSY" })
      })
    } catch (error) {
      if (error instanceof SpawnError) throw error
      throw new SpawnError({
        message: `cannot create a placeholder at ${path}, which the sandbox forbids to create: ${OsError.describe(error)}`
      })
    }
  }

  const take = (path: string) => {
    const known = held.get(path)
    if (known !== undefined) return void known.holders++
    held.set(path, { fd: open(path), holders: 1 })
    addFolder(path)
  }

  const forget = (path: string, fd: number) => {
    held.delete(path)
    removeFolder(path)
    remove(path, fd)
  }

  const drop = (path: string) => {
    const known = held.get(path)
    if (known !== undefined && --known.holders === 0) forget(path, known.fd)
  }

  return {
    has: isPlaceholder,
    freeze: (writer) => Array.from(held, ([path, { fd }]) => ({ path, fd: writer.descriptor(fd) })),
    restore: (placeholders) => {
      for (const { path, fd } of placeholders) {
        held.set(path, { fd, holders: 0 })
        restoreFolder(path)
      }
    },
    releaseOthers: () => {
      for (const [path, { fd, holders }] of held) if (holders === 0) forget(path, fd)
    },
    hold: (paths, mounted) => {
      const taken: Array<string> = []
      const release = () => {
        for (const path of taken.splice(0).reverse()) drop(path)
      }
      try {
        for (const path of [...paths, ...mounted.filter((path) => held.has(path))]) {
          take(path)
          taken.push(path)
        }
        return release
      } catch (error) {
        release()
        throw error
      }
    }
  }
}

/** The placeholders of a server. */
export class Placeholders extends Context.Tag("exec-server/Placeholders")<Placeholders, Shape>() {
  /** If the server is killed, the guard removes the remaining placeholders. */
  static readonly layer: Layer.Layer<Placeholders, never, Guard> = Layer.effect(Placeholders, Effect.map(Guard, make))
}
