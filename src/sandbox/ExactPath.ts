/**
 * Opens paths whose links were resolved before, if they have not changed since.
 *
 * @since 0.1.0
 */
import { closeSync, constants, openSync, readlinkSync } from "node:fs"
import { SpawnError } from "../spawn/Child.js"

/** O_PATH of open(2): a descriptor of the path only. Node.js has no constant for it. */
const openPath = 0o10000000

/** Opens a path without links; throws if a component has since been replaced by a link. */
export const openExactly = (path: string): number => {
  const fd = openSync(path, openPath | constants.O_NOFOLLOW)
  if (readlinkSync(`/proc/self/fd/${fd}`) === path) return fd
  closeSync(fd)
  throw new SpawnError({ message: `${path} was replaced while the sandbox was being set up` })
}
