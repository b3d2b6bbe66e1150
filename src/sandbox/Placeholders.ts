/**
 * Empty directories at missing paths that a sandbox forbids to create. A mount needs an existing mount point, so the
 * directory exists while a confined process runs.
 *
 * @since 0.1.0
 */
import { closeSync, mkdirSync, readdirSync, rmdirSync } from "node:fs"
import { basename, dirname } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as OsError from "../protocol/OsError.js"
import { SpawnError } from "../spawn/Child.js"
import { Guard } from "../spawn/Guard.js"
import { openExactly } from "./ExactPath.js"

/** Creates and removes placeholders. */
export interface Shape {
  /**
   * Creates the placeholders at `paths`, or shares existing ones, and returns their release. Paths in `mounted` that
   * are placeholders of another confinement are shared as well: the mount plan took them for real directories. Throws
   * `SpawnError`.
   */
  readonly hold: (paths: ReadonlyArray<string>, mounted: ReadonlyArray<string>) => () => void
  /** Whether a directory is a placeholder. False once it is no longer empty. */
  readonly has: (path: string) => boolean
}

/** Acts in the directory that was resolved, even if a link has since replaced it. */
const inParent = (path: string, use: (path: string) => void) => {
  const parent = openExactly(dirname(path))
  try {
    use(`/proc/self/fd/${parent}/${basename(path)}`)
  } finally {
    closeSync(parent)
  }
}

const isEmpty = (path: string): boolean => {
  try {
    return readdirSync(path).length === 0
  } catch {
    return false
  }
}

const make = ({ addFolder, removeFolder }: Guard["Type"]): Shape => {
  const holders = new Map<string, number>()

  const take = (path: string) => {
    const holding = holders.get(path) ?? 0
    if (holding === 0) {
      try {
        // Unconfined programs may have used the directory, for example to create a repository.
        inParent(path, (here) => mkdirSync(here, 0o755))
      } catch (error) {
        if (error instanceof SpawnError) throw error
        throw new SpawnError({
          message: `cannot create a placeholder at ${path}, which the sandbox forbids to create: ${OsError.describe(error)}`
        })
      }
      addFolder(path)
    }
    holders.set(path, holding + 1)
  }

  const drop = (path: string) => {
    const holding = (holders.get(path) ?? 1) - 1
    if (holding > 0) return void holders.set(path, holding)
    holders.delete(path)
    removeFolder(path)
    try {
      inParent(path, (here) => rmdirSync(here))
    } catch {
      // Another program has removed it or put a file into it; then it stays.
    }
  }

  return {
    has: (path) => holders.has(path) && isEmpty(path),
    hold: (paths, mounted) => {
      const taken: Array<string> = []
      const release = () => {
        for (const path of taken.splice(0).reverse()) drop(path)
      }
      try {
        for (const path of [...paths, ...mounted.filter((path) => holders.has(path))]) {
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
