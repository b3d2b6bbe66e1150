/**
 * Opens paths whose links were resolved before, if they have not changed since.
 *
 * @since 0.1.0
 */
import { closeSync, constants, openSync, readlinkSync } from "node:fs"
import { O_PATH } from "../filesystem/Cursor.js"
import { SpawnError } from "../spawn/Child.js"

/** Opens a path without links; throws if a component has since been replaced by a link. */
export const openExactly = (path: string): number => {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW)
  if (readlinkSync(`/proc/self/fd/${fd}`) === path) return fd
  closeSync(fd)
  throw new SpawnError({ message: `${path} was replaced while the sandbox was being set up` })
}
