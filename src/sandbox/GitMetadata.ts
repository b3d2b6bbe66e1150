/**
 * Finds the files that decide which programs git runs, besides `.git` itself: in the folder that a pointer file names,
 * in the common folder of worktrees, and behind hooks and configuration that are links.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from "node:fs"
import { dirname, join, resolve } from "node:path"

/** The longest content of a pointer, in bytes: more than the longest path. */
const maxPointerBytes = 8192

/** The names in a repository's folder that make git run programs. */
const decisive = ["hooks", "config", "config.worktree"]

/** Called with each path before it is examined; may throw. */
type Probe = (path: string) => void

/** The content of a small regular file; undefined if there is none. Throws system errors, and `Error` for others. */
const contentOf = (path: string, probe: Probe): string | undefined => {
  probe(path)
  let fd: number
  try {
    // O_NONBLOCK: a pipe in its place must not stop the server.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined
    throw error
  }
  try {
    if (!fstatSync(fd).isFile()) return undefined
    const bytes = Buffer.alloc(maxPointerBytes)
    const content = bytes.subarray(0, readSync(fd, bytes, 0, maxPointerBytes, 0))
    if (!isUtf8(content)) throw new Error(`${path} is not UTF-8`)
    return content.toString()
  } finally {
    closeSync(fd)
  }
}

/** The path in a pointer's text; undefined if there is none. Git reads up to a NUL and strips line ends. */
const targetOf = (text: string | undefined, folder: string): string | undefined => {
  const path = text?.split("\0", 1)[0]?.trim()
  return path === undefined || path === "" ? undefined : resolve(folder, path)
}

/** The folder that a pointer file, `gitdir: PATH`, names. */
const pointedTo = (dotGit: string, probe: Probe): string | undefined => {
  const text = contentOf(dotGit, probe)
  return text?.startsWith("gitdir:") ? targetOf(text.slice("gitdir:".length), dirname(dotGit)) : undefined
}

const isLink = (path: string, probe: Probe): boolean => {
  probe(path)
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
  } catch {
    // Not below a folder: then git finds nothing there either.
    return false
  }
}

/**
 * Paths besides `.git` that decide which programs git runs, and so must be protected. They may be missing or contain
 * links. Throws if they cannot be determined.
 */
export const pathsOf = (dotGit: string, probe: Probe): ReadonlyArray<string> => {
  const pointed = pointedTo(dotGit, probe)
  const own = pointed ?? dotGit
  const common = targetOf(contentOf(join(own, "commondir"), probe), own)
  const folders = common === undefined ? [own] : [own, common]
  const links = folders
    .flatMap((folder) => [...decisive, "commondir"].map((name) => join(folder, name)))
    .filter((path) => isLink(path, probe))
  return [...folders.filter((folder) => folder !== dotGit), ...links]
}
