/**
 * The mounts whose file systems may stop answering: those of other machines, and those that a process serves.
 *
 * A system call on one of them may block for ever, also open(2) and stat(2). So what runs on the event loop or in
 * libuv's four threads must not touch them. To find out whether a path leads there, only the components before the
 * mount are examined, one by one, and links are followed by their text.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { lstatSync, openSync, readlinkSync, readSync } from "node:fs"
import * as Context from "effect/Context"
import * as Posix from "./Posix.js"

/** How long a file system may take to answer one system call, in milliseconds. */
export const answerMs = 10_000

/** The types of such file systems, as in the table of mounts; `fusectl` is none of them. */
const slowTypes =
  /^(fuse|fuseblk|fuse\..+|nfs\d?|cifs|smb\d?|smbfs|9p|virtiofs|ceph|afs|glusterfs|lustre|ocfs2|gfs2|coda|ncpfs|autofs)$/

/** The most links that the system follows in one path. */
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

/** What is known of the mounts of this process. */
export interface Shape {
  /** Whether there is any slow mount now. */
  readonly isPresent: () => boolean
  /** The slow mount that a path leads to or through, if there is one. The path is absolute. */
  readonly find: (path: string) => SlowMount | undefined
}

/** Paths in the table have some characters as octal numbers. */
const decodeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))

/** Reads the slow mounts from the text of `/proc/self/mountinfo`. The root is left out: the server itself lives there. */
export const parse = (table: string): ReadonlyMap<string, SlowMount> => {
  const mounts = new Map<string, SlowMount>()
  for (const line of table.split("\n")) {
    const [before = "", after = ""] = line.split(" - ")
    const path = decodeOctal(before.split(" ")[4] ?? "")
    const [type = ""] = after.split(" ")
    if (path !== "" && path !== "/" && slowTypes.test(type)) mounts.set(path, { path, type })
  }
  return mounts
}

/** Where a path leads: to a slow mount, or to this path without links. */
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
      // It cannot be entered, by nobody else here either.
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

/** Follows a table of mounts, by default that of this process. Where there is none, no mount is known to be slow. */
export const make = (table = "/proc/self/mountinfo"): Shape => {
  let fd: number | undefined
  let mounts: ReadonlyMap<string, SlowMount> = new Map()
  const update = () => {
    if (fd === -1) return
    const isFirst = fd === undefined
    try {
      fd ??= openSync(table, "r")
      if (isFirst || Posix.hasChanged(fd)) mounts = parse(readAll(fd))
    } catch {
      fd ??= -1
    }
  }
  const isPresent = () => {
    update()
    return mounts.size > 0
  }
  const find: Shape["find"] = (path) => {
    if (!isPresent()) return undefined
    const found = follow(mounts, Buffer.from(path).toString("latin1"))
    return typeof found === "string" ? undefined : found
  }
  return { isPresent, find }
}

/** The slow mounts of this process. */
export class SlowMounts extends Context.Reference<SlowMounts>()("exec-server/SlowMounts", {
  defaultValue: () => make()
}) {}
