/**
 * The system calls of `native/posix.c`.
 *
 * @since 0.1.0
 */
import { createRequire } from "node:module"
import { constants } from "node:os"
import { join } from "node:path"
import * as Package from "../internal/Package.js"
import { codeName } from "../protocol/OsError.js"
import type * as ExitUsage from "./ExitUsage.js"

/** The descriptors 0, 1, 2 and above of a child; -1 stands for /dev/null. */
export type Descriptors = readonly [stdin: number, stdout: number, stderr: number, ...more: ReadonlyArray<number>]

/** The controlling terminal of a child: the path of its slave, and the master's descriptor. */
export interface Terminal {
  readonly path: string
  readonly master: number
}

/** The standard descriptors of a child: a terminal, or separate descriptors. */
export type Stdio = Terminal | Descriptors

/** Whether a child gets a terminal. */
export const isTerminal = (stdio: Stdio): stdio is Terminal => "path" in stdio

/** Called with the end of a child: its status or -1, the number of a signal or 0, and what it has used if known. */
export type OnExit = (code: number, signal: number, ...usage: Parameters<typeof ExitUsage.ofReport>) => void

/** What a child gets before it executes its program, besides its descriptors. */
export interface Bounds {
  /** Limits that it sets itself, as a text of `native/limits.h`. */
  readonly limits?: string | undefined
  /** The descriptor of the folder of a cgroup that it starts in. */
  readonly cgroup?: number | undefined
}

/** Every call returns a negative error number on failure. */
export interface Native {
  readonly pipe: () => readonly [readEnd: number, writeEnd: number] | number
  readonly setPipeSize: (fd: number, bytes: number) => number
  readonly spawn: (
    files: ReadonlyArray<string>,
    argv: ReadonlyArray<string>,
    env: ReadonlyArray<string>,
    cwd: string,
    stdio: string | Descriptors,
    onExit: OnExit,
    guard: number,
    held: number,
    onStarted: ((result: number, index: number) => void) | undefined,
    limits: string | undefined,
    cgroup: number
  ) => number
  readonly abandon: (token: number) => number
  readonly adopt: (pid: number, onExit: OnExit) => number
  readonly setNonBlocking: (fd: number) => number
  readonly hasChanged: (fd: number) => boolean
  readonly owns: (pid: number) => boolean
  readonly lock: (fd: number, isExclusive: boolean) => number
  readonly nextData: (fd: number, from: number) => Promise<number>
  readonly exitNow: (code: number) => never
  readonly delegated: (path: string) => boolean
  readonly guardSocket: () => readonly [own: number, theirs: number] | number
  readonly tell: (fd: number, line: string) => number
  readonly socketOwner: (
    peerHost: string,
    peerPort: number,
    ownHost: string,
    ownPort: number
  ) => readonly [uid: number, inode: number] | number
  readonly peerCredentials: (fd: number) => readonly [uid: number, pid: number] | number
  readonly processTable: () => Float64Array
  readonly setUpTerminal: (fd: number) => number
  readonly eof: (fd: number) => number
  readonly rawOutput: (fd: number) => number
  readonly readAvailable: (fd: number, buffer: Buffer, offset: number) => number
  readonly setRoot: (path: string) => number
  readonly onWritable: (fd: number, callback: () => void) => number
  readonly cancel: (token: number) => number
  readonly keepFreed: (bytes: number) => void
  readonly eraseVariable: (name: string) => number
}

const load = createRequire(import.meta.url)

const buildFolder = join(Package.root, "src/spawn/native/build/Release")

let loaded: Native | undefined

/**
 * Loads a native module from a folder. It uses only Node-API, whose ABI is stable, so one build serves all releases of
 * Node.js. If it cannot be loaded, throws an error that tells how to build it.
 */
const loadModule = (folder: string, name: string): unknown => {
  const path = join(folder, `${name}.node`)
  try {
    return load(path)
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split("\n")
    const remedy = `run npm rebuild in ${Package.root}`
    throw new Error(`the native module ${path} cannot be loaded: ${reason}; ${remedy}`, { cause })
  }
}

/** The module of `native/posix.c` in a folder; see `loadModule`. */
export const loadFrom = (folder: string): Native => loadModule(folder, "posix") as Native

/** Loads another native module by its name; see `loadModule`. */
export const loadOther = (name: string): unknown => loadModule(buildFolder, name)

const native = (): Native => {
  loaded ??= loadFrom(buildFolder)
  return loaded
}

/** Throws for a negative result, with the same `code` as node:fs. */
export const check = <A>(result: A | number): A | number => {
  if (typeof result !== "number" || result >= 0) return result
  const code = codeName(-result)
  throw Object.assign(new Error(`system call failed: ${code}`), { code })
}

/** Added to the error number of a start whose working directory cannot be used; see `native/posix.c`. */
const ofCwd = 4096

/** What the negative result of a start means. */
export const startFault = (result: number): { readonly code: string; readonly isOfCwd: boolean } => {
  const isOfCwd = -result > ofCwd
  return { code: codeName(isOfCwd ? -result - ofCwd : -result), isOfCwd }
}

/** The program that runs first in a PID namespace; see `native/init.c`. */
export const initProgram = (): string => join(buildFolder, "init")

/** The program that ends the remaining processes of a dead server; see `native/guard.c`. */
export const guardProgram = (): string => join(buildFolder, "guard")

/** The program that probes paths; `native/look.c` describes its arguments. */
export const lookProgram = (): string => join(buildFolder, "look")

/** A pipe, both ends closed on exec. Throws like node:fs. */
export const pipe = (): readonly [readEnd: number, writeEnd: number] =>
  check(native().pipe()) as readonly [number, number]

/** Sets the capacity of a pipe, in bytes; false if the system does not allow or support that. */
export const setPipeSize = (fd: number, bytes: number): boolean => native().setPipeSize(fd, bytes) > 0

/**
 * Starts a file as the leader of a session, with this `argv`, these variables (`NAME=value`) and only these
 * descriptors. Calls `onExit` once, in a later turn of the event loop: with the status and 0; with -1 and the number of
 * a signal; or with -1 and 0 if the system reported neither; and with its usage. Throws the system's error, like
 * node:fs, with `isOfCwd` if the directory is at fault.
 *
 * With the socket of a guard, the child registers there before it executes its program, and the guard keeps its
 * terminal open.
 */
export const spawn = (
  file: string,
  argv: ReadonlyArray<string>,
  env: ReadonlyArray<string>,
  cwd: string,
  stdio: Stdio,
  onExit: OnExit,
  guard = -1,
  { limits, cgroup = -1 }: Bounds = {}
): number => {
  const terminal = isTerminal(stdio) ? stdio : undefined
  const given = isTerminal(stdio) ? stdio.path : stdio
  const held = terminal?.master ?? -1
  const started = native().spawn([file], argv, env, cwd, given, onExit, guard, held, undefined, limits, cgroup)
  if (started >= 0) return started
  const fault = startFault(started)
  throw Object.assign(new Error(`system call failed: ${fault.code}`), fault)
}

/**
 * Reports the end of a child, as `spawn` does, that the program executed before in this process has started. One that
 * has ended is reported with its true status, and a pid that is no child as one whose status was lost. Throws like
 * node:fs.
 */
export const adopt = (pid: number, onExit: OnExit): void => {
  expected.delete(pid)
  check(native().adopt(pid, onExit))
}

/** Makes reads and writes of a descriptor fail instead of waiting. Throws like node:fs. */
export const setNonBlocking = (fd: number): void => {
  check(native().setNonBlocking(fd))
}

/** A start on another thread. */
export interface SlowStart {
  /** The absolute paths to try. The first executable file is started. */
  readonly files: ReadonlyArray<string>
  readonly argv: ReadonlyArray<string>
  readonly env: ReadonlyArray<string>
  readonly cwd: string
  readonly stdio: Stdio
  readonly guard: number
  readonly bounds?: Bounds | undefined
  /** Called as by `spawn`. */
  readonly onExit: OnExit
  /** Called once, later, with a pid or a negative number for `startFault`, and the index of the file that was found. */
  readonly onStarted: (result: number, index: number) => void
}

/**
 * Like `spawn`, but another thread waits for slow file systems. The caller may close the descriptors at once. Returns a
 * function that kills the child if it is still waiting; `onStarted` is then called once the child is dead. Throws like
 * node:fs if the thread cannot be made.
 */
export const spawnSlowly = (start: SlowStart): (() => void) => {
  const { files, argv, env, cwd, stdio, guard, bounds, onExit, onStarted } = start
  const terminal = isTerminal(stdio) ? stdio : undefined
  const given = isTerminal(stdio) ? stdio.path : stdio
  const held = terminal?.master ?? -1
  const { limits, cgroup = -1 } = bounds ?? {}
  const started = native().spawn(files, argv, env, cwd, given, onExit, guard, held, onStarted, limits, cgroup)
  const token = check(started) as number
  return () => {
    native().abandon(token)
  }
}

/** Children that are to be adopted. */
const expected = new Set<number>()

/** Tells that a child is going to be adopted: until then nobody else waits for it. */
export const expect = (pid: number): void => {
  expected.add(pid)
}

/**
 * Whether a child was started by `spawn` or `spawnSlowly`, or adopted, and its end has not been reported yet; or is
 * expected to be adopted.
 */
export const owns = (pid: number): boolean => expected.has(pid) || native().owns(pid)

/** Whether the mount table has changed since this descriptor of it was opened, or since the last call. */
export const hasChanged = (fd: number): boolean => native().hasChanged(fd)

/**
 * Ends this process at once. `process.exit` calls exit(3), which joins libuv's threads, and would wait forever for one
 * that waits for a dead file system.
 */
export const exitNow = (code: number): never => native().exitNow(code)

/** Whether systemd has left a cgroup, by the path of its folder, to the processes in it. */
export const isDelegated = (path: string): boolean => native().delegated(path)

/** The two ends of a guard's socket, both closed on exec. Throws like node:fs. */
export const guardSocket = (): readonly [own: number, theirs: number] =>
  check(native().guardSocket()) as readonly [number, number]

/** Sends a line to a guard; false if its socket is full. Sending to a dead guard is no error. */
export const tell = (socket: number, line: string): boolean => native().tell(socket, line) !== -constants.errno.EAGAIN

/**
 * The user at the other end of a TCP connection within this machine, and the inode of their socket, 0 if it is closed.
 * Throws like node:fs.
 */
export const socketOwner = (
  peerHost: string,
  peerPort: number,
  ownHost: string,
  ownPort: number
): readonly [uid: number, inode: number] =>
  check(native().socketOwner(peerHost, peerPort, ownHost, ownPort)) as readonly [number, number]

/** The user and the pid that connected a unix socket. Throws like node:fs. */
export const peerCredentials = (fd: number): readonly [uid: number, pid: number] =>
  check(native().peerCredentials(fd)) as readonly [number, number]

/** The length of a row of `processTable`. */
export const rowLength = 9

/**
 * All processes, `rowLength` numbers each: pid, state as a character code, parent, group, session, start time in clock
 * ticks since boot, CPU time in milliseconds, that of children it has waited for, and resident memory in bytes. Empty
 * without /proc.
 */
export const processTable = (): Float64Array => native().processTable()

/** Keeps children from inheriting a terminal, and makes erase work on whole UTF-8 characters. Throws like node:fs. */
export const setUpTerminal = (fd: number): void => {
  check(native().setUpTerminal(fd))
}

/** The character that ends the input of a terminal, as its programs have set it; ^D by default. Throws like node:fs. */
export const eof = (fd: number): number => check(native().eof(fd)) as number

/**
 * Reads what a non-blocking descriptor has, from an offset of the buffer until that is full. Returns the number of
 * bytes, and undefined at the end of the input or if it cannot be read.
 */
export const readAvailable = (fd: number, buffer: Buffer, offset = 0): number | undefined => {
  const result = native().readAvailable(fd, buffer, offset)
  return result > 0 ? result : result === -constants.errno.EAGAIN ? 0 : undefined
}

/** Turns off output processing of a terminal. Throws like node:fs. */
export const rawOutput = (fd: number): void => {
  check(native().rawOutput(fd))
}

/** Makes a directory the root of this process. Throws like node:fs. */
export const setRoot = (path: string): void => {
  check(native().setRoot(path))
}

/**
 * Calls back once, later, when a descriptor is writable or has failed. Returns a function that cancels this. Throws
 * like node:fs.
 */
export const onWritable = (fd: number, callback: () => void): (() => void) => {
  const token = native().onWritable(fd, callback)
  check(token)
  return () => {
    native().cancel(token)
  }
}

/** Overwrites the value of a variable in the initial environment of this process. Throws like node:fs. */
export const eraseVariable = (name: string): void => {
  check(native().eraseVariable(name))
}

/** Sets how much freed memory each heap of this process may keep, in bytes. Only glibc supports this. */
export const keepFreed = (bytes: number): void => native().keepFreed(bytes)

/** Takes the lock of flock(2) on an open file or directory, without waiting; false if another process prevents that. */
export const lock = (fd: number, kind: "shared" | "exclusive"): boolean => native().lock(fd, kind === "exclusive") === 0

/**
 * The position of the next data in a file, at `from` or after it; undefined if there is only a hole. Where the file
 * system does not tell, all is data. Changes the offset of the descriptor. Rejects like node:fs.
 */
export const nextData = async (fd: number, from: number): Promise<number | undefined> => {
  const found = await native().nextData(fd, from)
  const code = codeName(-found)
  if (code === "ENXIO") return undefined
  return code === "EINVAL" ? from : (check(found) as number)
}
