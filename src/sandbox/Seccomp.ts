/**
 * A filter for system calls: what of the network a network namespace does not keep apart.
 *
 * Sockets with paths are files, which a program may reach that may see them, and a virtual machine's sockets to its host
 * belong to no namespace. So an isolated program gets internet sockets, of its own network, and connected pairs.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { constants } from "node:os"

// Classic BPF, of linux/filter.h.
const load = 0x20
const and = 0x54
const equal = 0x15
const atLeast = 0x35
const give = 0x06

/** Where what is looked at lies in struct seccomp_data. */
const offset = { number: 0, architecture: 4, first: 16, second: 24 }

/** SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with the number. */
const allow = 0x7fff0000
const refuse = (error: number) => 0x00050000 | error

/** AUDIT_ARCH and the numbers of socket(2) and socketpair(2); io_uring_setup(2) has the same everywhere. */
const architectures: { readonly [name: string]: readonly [audit: number, socket: number, socketpair: number] } = {
  x64: [0xc000003e, 41, 53],
  arm64: [0xc00000b7, 198, 199]
}

const ioUringSetup = 425
/** From here on the numbers of x86-64 mean the same calls with other sizes. */
const otherAbi = 0x40000000

const family = { inet: 2, inet6: 10, netlink: 16 }
const stream = 1
const seqpacket = 5

type Step = readonly [code: number, value: number, ifTrue?: number, ifFalse?: number]

/** The filter as the kernel takes it; undefined where the numbers of its system calls are not known. */
export const noForeignSockets = (architecture: string = process.arch): Buffer | undefined => {
  const [audit, socket, socketpair] = architectures[architecture] ?? []
  if (audit === undefined || socket === undefined || socketpair === undefined) return undefined
  const steps: ReadonlyArray<Step> = [
    [load, offset.architecture],
    [equal, audit, 0, 15],
    [load, offset.number],
    [atLeast, otherAbi, 13, 0],
    // It makes sockets without the calls below.
    [equal, ioUringSetup, 12, 0],
    [equal, socket, 2, 0],
    [equal, socketpair, 5, 0],
    [give, allow],
    [load, offset.first],
    [equal, family.inet, 8, 0],
    [equal, family.inet6, 7, 0],
    [equal, family.netlink, 6, 4],
    // Datagrams of a pair can be sent elsewhere.
    [load, offset.second],
    [and, 0xf],
    [equal, stream, 3, 0],
    [equal, seqpacket, 2, 0],
    [give, refuse(constants.errno.EPERM)],
    [give, refuse(constants.errno.ENOSYS)],
    [give, allow]
  ]
  const program = Buffer.alloc(steps.length * 8)
  steps.forEach(([code, value, ifTrue = 0, ifFalse = 0], index) => {
    program.writeUInt16LE(code, index * 8)
    program.writeUInt8(ifTrue, index * 8 + 2)
    program.writeUInt8(ifFalse, index * 8 + 3)
    program.writeUInt32LE(value, index * 8 + 4)
  })
  return program
}
