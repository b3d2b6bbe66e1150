/**
 * The system calls of `native/host.c`, which few servers need.
 *
 * @since 0.1.0
 */
import * as Posix from "./Posix.js"

interface Native {
  readonly notify: (address: string, text: string) => number
  readonly passedSocket: (fd: number) => readonly [name: string, port: number] | number
  readonly anyEnded: () => number
  readonly hasEnded: (pid: number) => boolean
  readonly reap: (pid: number) => number
}

let loaded: Native | undefined

const native = (): Native => {
  loaded ??= Posix.loadOther("host") as Native
  return loaded
}

/**
 * Sends a datagram to a unix socket: a path, or @ and a name. Does not wait: EAGAIN if the receiver has too many that it
 * has not read. Throws like node:fs.
 */
export const notify = (address: string, text: string): void => {
  Posix.check(native().notify(address, text))
}

/**
 * The address of a listening stream socket that this process has inherited: a host and a port, or the path of a unix
 * socket (@ and a name, if it has no file) and -1. Children do not inherit it any more. Throws like node:fs: EBADF or
 * ENOTSOCK, EINVAL if it does not listen, EPROTOTYPE if it is no stream, EAFNOSUPPORT for other addresses.
 */
export const passedSocket = (fd: number): readonly [name: string, port: number] =>
  Posix.check(native().passedSocket(fd)) as readonly [string, number]

/** The pid of a child of the main thread that has ended, and that nobody has waited for; 0 if there is none. */
export const anyEnded = (): number => native().anyEnded()

/** Whether a pid is that of such a child. */
export const hasEnded = (pid: number): boolean => native().hasEnded(pid)

/** Waits for a child that has ended. Its status is lost. */
export const reap = (pid: number): void => {
  native().reap(pid)
}
