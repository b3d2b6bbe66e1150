/**
 * Native paths as bytes: names need not be UTF-8. All are absolute and without a trailing slash.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"

/** An absolute path. */
export type NativePath = Buffer

const slash = 0x2f

/** The path of a name in a directory. */
export const join = (directory: NativePath, name: Buffer): NativePath =>
  directory.length === 1 ? Buffer.concat([directory, name]) : Buffer.concat([directory, Buffer.from("/"), name])

/** Whether this is `/`. */
export const isRoot = (path: NativePath): boolean => path.length === 1

/** The parent directory of a path; that of `/` is `/`. */
export const parent = (path: NativePath): NativePath => path.subarray(0, Math.max(1, path.lastIndexOf(slash)))

/** The last component of a path; that of `/` is `.`. */
export const basename = (path: NativePath): Buffer =>
  isRoot(path) ? Buffer.from(".") : path.subarray(path.lastIndexOf(slash) + 1)

/** The components of a path, from the root down. */
export const names = (path: NativePath): ReadonlyArray<Buffer> => {
  const all: Array<Buffer> = []
  for (let rest = path; !isRoot(rest); rest = parent(rest)) all.push(basename(rest))
  return all.reverse()
}

/** Quotes a path for a message. */
export const quote = (path: NativePath): string => `\`${path.toString()}\``
