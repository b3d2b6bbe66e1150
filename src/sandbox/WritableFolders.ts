/**
 * The folders that running sandboxes can write. Their programs can replace any link there, so no other sandbox may rely
 * on such a link while they run.
 *
 * @since 0.1.0
 */
import { dirname } from "node:path"
import type { Confinement } from "../spawn/Confinement.js"

/** The most folders held at a time, by all running sandboxes. */
export const maxFolders = 16_384

/** Counts the sandboxes that can write each folder. */
export interface WritableFolders {
  /** Counts the writable folders of a confinement until the returned release is called. */
  readonly hold: (confinement: Confinement | undefined) => () => void
  /** The nearest held folder around a path. */
  readonly around: (path: string) => string | undefined
  /** Whether a confinement can be held without exceeding `maxFolders`. */
  readonly hasRoomFor: (confinement: Confinement) => boolean
}

/** The outermost writable folders. A writable `/` does not count: every path to a program leads through links there. */
const foldersOf = (confinement: Confinement | undefined): ReadonlyArray<string> => {
  const folders = new Set<string>()
  const isInside = (path: string): boolean => path !== "/" && (folders.has(path) || isInside(dirname(path)))
  for (const mount of confinement?.mounts ?? []) {
    // Outer mounts come first.
    if (mount._tag === "Bind" && mount.writable && mount.path !== "/" && !isInside(mount.path)) folders.add(mount.path)
  }
  return Array.from(folders)
}

/** No folders; `limit` is for tests. */
export const make = (limit: number = maxFolders): WritableFolders => {
  const holders = new Map<string, number>()

  const drop = (folder: string) => {
    const remaining = (holders.get(folder) ?? 1) - 1
    if (remaining === 0) holders.delete(folder)
    else holders.set(folder, remaining)
  }

  const around = (path: string): string | undefined =>
    path === "/" ? undefined : holders.has(path) ? path : around(dirname(path))

  return {
    hold: (confinement) => {
      const held = Array.from(foldersOf(confinement))
      for (const folder of held) holders.set(folder, (holders.get(folder) ?? 0) + 1)
      return () => {
        for (const folder of held.splice(0)) drop(folder)
      }
    },
    around,
    hasRoomFor: (confinement) => {
      const added = foldersOf(confinement).filter((folder) => !holders.has(folder))
      return added.length === 0 || holders.size + added.length <= limit
    }
  }
}
