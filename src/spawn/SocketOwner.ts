/**
 * Finds the owner of the other end of a local connection, as the kernel reports it.
 *
 * @since 0.1.0
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import { isIPv6, type Socket } from "node:net"
import { networkInterfaces } from "node:os"
import * as Data from "effect/Data"
import { isLoopback } from "../internal/Loopback.js"
import * as OsError from "../protocol/OsError.js"
import * as Posix from "./Posix.js"
import { entryOf, membersOf, table } from "./ProcessTree.js"

/**
 * The user who made a socket, and what identifies its process: the inode of a TCP socket, or the pid that connected a
 * unix socket. `Unknown` if the other end is closed or the kernel does not report it.
 */
export type SocketOwner = Data.TaggedEnum<{
  Tcp: { readonly uid: number; readonly inode: number }
  Unix: { readonly uid: number; readonly pid: number }
  Unknown: { readonly reason: string }
}>
export const SocketOwner = Data.taggedEnum<SocketOwner>()

/** The IPv4 address of an IPv4-mapped IPv6 address. Other addresses are returned unchanged. */
const unmapped = (host: string): string => host.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "")

/** An address as bytes; of IPv6 without an embedded IPv4 address. */
const bytesOf = (host: string): ReadonlyArray<number> => {
  if (!isIPv6(host)) return host.split(".").map(Number)
  const [before = "", after] = host.replace(/%.*$/, "").split("::")
  const wordsOf = (text: string | undefined) => (text ? text.split(":").map((word) => Number.parseInt(word, 16)) : [])
  const [first, last] = [wordsOf(before), wordsOf(after)]
  const words = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last]
  return words.flatMap((word) => [word >> 8, word & 255])
}

/** The same address, IPv4-mapped. */
const mapped = (bytes: ReadonlyArray<number>): ReadonlyArray<number> =>
  bytes.length === 4 ? [...Array.from({ length: 10 }, () => 0), 255, 255, ...bytes] : bytes

const hex = (number: number, digits: number): string => number.toString(16).toUpperCase().padStart(digits, "0")

/** An address as in /proc/net/tcp: 32-bit words in little-endian byte order. */
const shown = (bytes: ReadonlyArray<number>, port: number): string => {
  const words = Array.from({ length: bytes.length / 4 }, (_, word) => bytes.slice(4 * word, 4 * word + 4).reverse())
  const address = words.flat().map((byte) => hex(byte, 2))
  return `${address.join("")}:${hex(port, 4)}`
}

/** The two ends of an accepted TCP connection. */
export interface Ends {
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
}

/** Searches the table of all connections, for kernels without socket diagnostics, such as gVisor's. */
export const findInTable = (socket: Ends): SocketOwner | undefined => {
  const [peer, own] = [bytesOf(unmapped(socket.remoteAddress)), bytesOf(unmapped(socket.localAddress))]
  const line = (form: (bytes: ReadonlyArray<number>) => ReadonlyArray<number>) =>
    `${shown(form(peer), socket.remotePort)} ${shown(form(own), socket.localPort)} `
  for (const [file, wanted] of [
    ["/proc/net/tcp", line((bytes) => bytes)],
    ["/proc/net/tcp6", line(mapped)]
  ] as const) {
    for (const line of readFileSync(file, "latin1").split("\n")) {
      if (!line.includes(wanted)) continue
      const fields = line.trim().split(/\s+/)
      return SocketOwner.Tcp({ uid: Number(fields[7]), inode: Number(fields[9]) })
    }
  }
  return undefined
}

/** Undefined for a unix socket. */
const endsOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): Ends | undefined =>
  remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined
    ? undefined
    : { remoteAddress, remotePort, localAddress, localPort }

/** Error codes of kernels that lack socket diagnostics or deny them. */
const withoutDiagnostics: ReadonlySet<string> = new Set(["EPROTONOSUPPORT", "EOPNOTSUPP", "EPERM", "EACCES", "EINVAL"])

const ofTcp = (ends: Ends): SocketOwner | undefined => {
  const { remoteAddress, remotePort, localAddress, localPort } = ends
  try {
    const [uid, inode] = Posix.socketOwner(remoteAddress, remotePort, localAddress, localPort)
    return SocketOwner.Tcp({ uid, inode })
  } catch (error) {
    if (!withoutDiagnostics.has(OsError.codeOf(error) ?? "")) throw error
    return findInTable(ends)
  }
}

/** The descriptor of a Node.js socket. There is no public API for it. */
const descriptorOf = (socket: Socket): number =>
  (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd ?? -1

/** Whether an address is one of this machine's. */
const isOwn = (address: string): boolean =>
  isLoopback(address) ||
  Object.values(networkInterfaces()).some((all) => all?.some((own) => own.address === unmapped(address)) === true)

/** The owner of the other end of an accepted connection; undefined if it is on another machine. */
export const of = (socket: Socket): SocketOwner | undefined => {
  const ends = endsOf(socket)
  if (ends !== undefined && !isOwn(ends.remoteAddress)) return undefined
  try {
    if (ends === undefined) {
      const [uid, pid] = Posix.peerCredentials(descriptorOf(socket))
      return SocketOwner.Unix({ uid, pid })
    }
    const owner = ofTcp(ends)
    return owner === undefined || (owner._tag === "Tcp" && owner.inode === 0)
      ? SocketOwner.Unknown({ reason: "the other end is closed" })
      : owner
  } catch (error) {
    return SocketOwner.Unknown({ reason: OsError.describe(error) })
  }
}

/** Whether a process visibly has a socket open. */
const holds = (pid: number, inode: number): boolean => {
  const link = `socket:[${inode}]`
  let names: ReadonlyArray<string>
  try {
    names = readdirSync(`/proc/${pid}/fd`)
  } catch {
    return false
  }
  return names.some((name) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${name}`) === link
    } catch {
      return false
    }
  })
}

/**
 * Whether the owner is, or may be, one of these processes or a descendant. False only if the owner is found elsewhere:
 * a socket can be passed on while the process table is read.
 */
export const isWithin = (owner: SocketOwner, roots: ReadonlySet<number>): boolean => {
  // The usual case must not read the process table.
  if (roots.size === 0) return false
  const entries = table()
  const members = new Set<number>()
  for (const pid of roots) {
    for (const member of membersOf({ pid, startTime: entryOf(pid)?.startTime ?? 0 }, entries).keys())
      members.add(member)
  }
  if (members.size === 0) return false
  if (owner._tag === "Unknown") return true
  if (owner._tag === "Unix") return members.has(owner.pid) || entryOf(owner.pid) === undefined
  const isHeld = (byMembers: boolean) =>
    entries.some(({ pid }) => members.has(pid) === byMembers && holds(pid, owner.inode))
  return isHeld(true) || !isHeld(false)
}
