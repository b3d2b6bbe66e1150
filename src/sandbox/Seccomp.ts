/**
 * Seccomp filters for what namespaces do not isolate.
 *
 * One is for every sandboxed program. It refuses io_uring, which creates sockets and opens files without the usual
 * system calls; the kernel's keyrings, which belong to the user; and vsock, the sockets between a virtual machine and
 * its host.
 *
 * The other is for restricted networks. It allows internet and netlink sockets, which belong to the program's network
 * namespace, and connected socket pairs. It refuses all other sockets, such as unix sockets, which any program can use
 * that sees their path.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { constants } from "node:os"

// Instructions of classic BPF (linux/filter.h).
const load = 0x20
const and = 0x54
const equal = 0x15
const atLeast = 0x35
const ret = 0x06

/** Offsets in struct seccomp_data: the system call, the architecture, and the low halves of its first two arguments. */
const offset = { number: 0, architecture: 4, first: 16, second: 24 }

/** SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with an error number. */
const allow = 0x7fff0000
const refuse = (error: number) => 0x00050000 | error

/** AUDIT_ARCH, and the system call numbers of socket(2), socketpair(2), and add_key(2) with its two successors. */
const architectures: {
  readonly [name: string]: readonly [audit: number, socket: number, socketpair: number, addKey: number]
} = {
  x64: [0xc000003e, 41, 53, 248],
  arm64: [0xc00000b7, 198, 199, 217]
}

/** The system call number of io_uring_setup(2) on every architecture; io_uring_enter(2) and the rest follow it. */
const ioUringSetup = 425
/** The first system call number of the x32 ABI on x86-64: the same calls under other numbers. */
const otherAbi = 0x40000000

const family = { inet: 2, inet6: 10, netlink: 16, vsock: 40 }
const stream = 1
const seqpacket = 5

type Step = readonly [code: number, value: number, ifTrue?: number, ifFalse?: number]

/** The steps as a BPF program for the kernel. */
const assemble = (steps: ReadonlyArray<Step>): Buffer => {
  const program = Buffer.alloc(steps.length * 8)
  steps.forEach(([code, value, ifTrue = 0, ifFalse = 0], index) => {
    program.writeUInt16LE(code, index * 8)
    program.writeUInt8(ifTrue, index * 8 + 2)
    program.writeUInt8(ifFalse, index * 8 + 3)
    program.writeUInt32LE(value, index * 8 + 4)
  })
  return program
}

/** The filter for every sandboxed program; undefined for an architecture whose numbers are not in the table. */
export const base = (architecture: string = process.arch): Buffer | undefined => {
  const [audit, socket, , addKey] = architectures[architecture] ?? []
  if (audit === undefined || socket === undefined || addKey === undefined) return undefined
  return assemble([
    [load, offset.architecture],
    [equal, audit, 0, 11],
    [load, offset.number],
    [atLeast, otherAbi, 9, 0],
    [equal, ioUringSetup, 8, 0],
    [equal, ioUringSetup + 1, 7, 0],
    [equal, ioUringSetup + 2, 6, 0],
    [equal, addKey, 5, 0],
    [equal, addKey + 1, 4, 0],
    [equal, addKey + 2, 3, 0],
    [equal, socket, 0, 3],
    [load, offset.first],
    [equal, family.vsock, 2, 1],
    [ret, refuse(constants.errno.ENOSYS)],
    [ret, allow],
    [ret, refuse(constants.errno.EPERM)]
  ])
}

/** The filter for restricted networks; undefined for an architecture whose numbers are not in the table. */
export const noForeignSockets = (architecture: string = process.arch): Buffer | undefined => {
  const [audit, socket, socketpair] = architectures[architecture] ?? []
  if (audit === undefined || socket === undefined || socketpair === undefined) return undefined
  return assemble([
    [load, offset.architecture],
    [equal, audit, 0, 15],
    [load, offset.number],
    [atLeast, otherAbi, 13, 0],
    // io_uring creates sockets without socket(2).
    [equal, ioUringSetup, 12, 0],
    [equal, socket, 2, 0],
    [equal, socketpair, 5, 0],
    [ret, allow],
    [load, offset.first],
    [equal, family.inet, 8, 0],
    [equal, family.inet6, 7, 0],
    [equal, family.netlink, 6, 4],
    // Not datagram pairs: these can send to other unix sockets.
    [load, offset.second],
    [and, 0xf],
    [equal, stream, 3, 0],
    [equal, seqpacket, 2, 0],
    [ret, refuse(constants.errno.EPERM)],
    [ret, refuse(constants.errno.ENOSYS)],
    [ret, allow]
  ])
}
