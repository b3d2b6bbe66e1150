/**
 * Mounts that may stop answering: network file systems, and those served by a process.
 *
 * A system call on one of them may block forever, even open(2) and stat(2). The event loop and libuv's four threads
 * must not touch them. To find out whether a path leads there, only the components before the mount are examined, one
 * by one, and links are followed by their text.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { lstatSync, openSync, readlinkSync, readSync } from "node:fs"
import * as Context from "effect/Context"
import * as Posix from "./Posix.js"

/** How long a file system may take to answer one system call, in milliseconds. */
export const answerMs = 10_000

/** The types of such file systems in the mount table. `fusectl` does not count. */
const slowTypes =
  /^(fuse|fuseblk|fuse\..+|nfs\d?|cifs|smb\d?|smbfs|9p|virtiofs|ceph|afs|glusterfs|lustre|ocfs2|gfs2|coda|ncpfs|autofs)$/

/** The most links that the system follows in a path. */
const maxLinks = 40

/** The kernel's own limit is 100,000 mounts for each namespace. */
const maxTableBytes = 67_108_864

/** A mount of such a file system. */
export interface SlowMount {
  /** Where it is mounted. Bytes, encoded as Latin-1. */
  readonly path: string
  /** The type of its file system, such as `nfs4` or `fuse.sshfs`. */
  readonly type: string
}

/** The mounts of this process. */
export interface Shape {
  /** Whether there is a slow mount now. */
  readonly isPresent: () => boolean
  /** The slow mount that a path leads to or through, if there is one. The path is absolute. */
  readonly find: (path: string | Buffer) => SlowMount | undefined
  /** Like `find`; otherwise a slow mount below the path. */
  readonly findWithin: (path: string | Buffer) => SlowMount | undefined
}

const seconds = answerMs / 1000

/** The error text for something on a mount that timed out. */
export const hangTextOf = (what: string, { path, type }: SlowMount): string =>
  `${what} did not answer within ${seconds} s: its file system (${type} at ${Buffer.from(path, "latin1")}) hangs`

/** The error text when one of these paths timed out. */
export const hangText = (mounts: Pick<Shape, "find" | "findWithin">, paths: ReadonlyArray<string | Buffer>): string => {
  for (const find of [mounts.find, mounts.findWithin]) {
    for (const path of paths) {
      const mount = find(path)
      if (mount !== undefined) return hangTextOf(String(path), mount)
    }
  }
  return `a file system did not answer within ${seconds} s`
}

/** The table writes some characters of paths as octal numbers. */
const decodeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))

/** Excludes the root, where the server itself is, and mounts of the system in /proc and /sys (by LXC, for example). */
const isOwn = (path: string): boolean => path === "/" || path.startsWith("/proc/") || path.startsWith("/sys/")

/** Reads the slow mounts from the text of `/proc/self/mountinfo`. */
export const parse = (table: string): ReadonlyMap<string, SlowMount> => {
  const mounts = new Map<string, SlowMount>()
  for (const line of table.split("\n")) {
    const [before = "", after = ""] = line.split(" - ")
    const path = decodeOctal(before.split(" ")[4] ?? "")
    const [type = ""] = after.split(" ")
    if (path !== "" && !isOwn(path) && slowTypes.test(type)) mounts.set(path, { path, type })
  }
  return mounts
}

/** The target of a path: a slow mount, or this path without links. */
const follow = (mounts: ReadonlyMap<string, SlowMount>, path: string): SlowMount | string => {
  const rest = path.split("/").reverse()
  let here = ""
  let links = 0
  while (rest.length > 0) {
    const name = rest.pop() ?? ""
    if (name === "" || name === ".") continue
    if (name === "..") {
      here = here.slice(0, here.lastIndexOf("/"))
      continue
    }
    const next = `${here}/${name}`
    const mount = mounts.get(next)
    if (mount !== undefined) return mount
    const bytes = Buffer.from(next, "latin1")
    let target: string | undefined
    try {
      if (lstatSync(bytes, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
        target = readlinkSync(bytes, { encoding: "latin1" })
      }
    } catch {
      // The folder cannot be entered here, nor by a child.
    }
    if (target === undefined) here = next
    else {
      links++
      if (links > maxLinks) break
      if (target.startsWith("/")) here = ""
      rest.push(...target.split("/").reverse())
    }
  }
  return here
}

const readAll = (fd: number): string => {
  const pieces: Array<Buffer> = []
  let size = 0
  while (size < maxTableBytes) {
    const piece = Buffer.allocUnsafe(65536)
    const length = readSync(fd, piece, 0, piece.length, size)
    if (length === 0) break
    pieces.push(piece.subarray(0, length))
    size += length
  }
  return Buffer.concat(pieces).toString("latin1")
}

const toText = (path: string | Buffer): string => Buffer.from(path as string).toString("latin1")

const none: ReadonlyMap<string, SlowMount> = new Map()

/** Opens and reads a mount table; undefined if there is none. */
const open = (path: string) => {
  try {
    const fd = openSync(path, "r")
    return { fd, mounts: parse(readAll(fd)) }
  } catch {
    return undefined
  }
}

/**
 * Tracks a mount table, by default that of this process, from the first question about it. Without a table, no mount
 * counts as slow.
 */
export const make = (path = "/proc/self/mountinfo"): Shape => {
  let opened: { readonly table: ReturnType<typeof open> } | undefined
  const update = (): ReadonlyMap<string, SlowMount> => {
    opened ??= { table: open(path) }
    const { table } = opened
    if (table === undefined) return none
    try {
      if (Posix.hasChanged(table.fd)) table.mounts = parse(readAll(table.fd))
    } catch {
      // Keep the last known mounts.
    }
    return table.mounts
  }
  const isPresent = () => update().size > 0
  const find: Shape["find"] = (path) => {
    const mounts = update()
    if (mounts.size === 0) return undefined
    const found = follow(mounts, toText(path))
    return typeof found === "string" ? undefined : found
  }
  return {
    isPresent,
    find,
    findWithin: (path) => {
      const mounts = update()
      if (mounts.size === 0) return undefined
      const found = follow(mounts, toText(path))
      if (typeof found !== "string") return found
      for (const mount of mounts.values()) if (mount.path.startsWith(`${found}/`)) return mount
      return undefined
    }
  }
}

/** The slow mounts of this process. */
export class SlowMounts extends Context.Reference<SlowMounts>()("exec-server/SlowMounts", {
  defaultValue: () => make()
}) {}
