/**
 * The layout of the file that a server hands to the version that replaces it. It is read by positions and never
 * consumed: if that version fails, the one before reads it as well.
 *
 * | bytes | |
 * |---|---|
 * | 8 | the name of the format |
 * | 4 | its version |
 * | 4, 4 | the lengths of the two JSON texts |
 * | | JSON for the module that runs first: `Boot` |
 * | | JSON of the state |
 * | | the sections, one after another |
 *
 * No module of this folder is imported here: the module that runs first contains this one.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { readSync, writevSync } from "node:fs"

const name = Buffer.from("exsrvimg")

/** The version of the layout. */
const version = 1

const prefixBytes = 20

/** The most buffers of one system call: IOV_MAX. */
const maxBuffers = 1024

/** What the module that runs first needs. */
export interface Boot {
  /** The command of the version before, for `arm`. */
  readonly fallback: { readonly file: string; readonly argv: ReadonlyArray<string> }
  /** The descriptors that the fallback gets too. */
  readonly kept: ReadonlyArray<number>
  /** How long the new version may take to take over, in milliseconds. */
  readonly deadlineMs: number
}

/** The file is not one that a server has written, or by a version that this one does not know. */
export class NotAnImage extends Error {}

const readFully = (fd: number, into: Buffer, from: number): void => {
  for (let at = 0; at < into.length; ) {
    const got = readSync(fd, into, at, into.length - at, from + at)
    if (got === 0) throw new NotAnImage("the state of the version before is incomplete")
    at += got
  }
}

const prefixOf = (fd: number) => {
  const prefix = Buffer.alloc(prefixBytes)
  readFully(fd, prefix, 0)
  if (!prefix.subarray(0, 8).equals(name)) throw new NotAnImage("this is not the state of a server")
  const found = prefix.readUInt32LE(8)
  if (found !== version) throw new NotAnImage(`the state has layout ${found}, and this version reads ${version}`)
  return { bootBytes: prefix.readUInt32LE(12), stateBytes: prefix.readUInt32LE(16) }
}

const readJson = (fd: number, from: number, bytes: number): unknown => {
  const text = Buffer.allocUnsafe(bytes)
  readFully(fd, text, from)
  return JSON.parse(text.toString())
}

/** What the first module needs. */
export const readBoot = (fd: number): Boot => readJson(fd, prefixBytes, prefixOf(fd).bootBytes) as Boot

/** The JSON of the state, and where the sections begin. */
export const readState = (fd: number): { readonly state: unknown; readonly sectionsAt: number } => {
  const { bootBytes, stateBytes } = prefixOf(fd)
  const from = prefixBytes + bootBytes
  return { state: readJson(fd, from, stateBytes), sectionsAt: from + stateBytes }
}

/** Reads bytes at a position. Throws `NotAnImage` if there are fewer. */
export const readBytes = (fd: number, from: number, length: number): Buffer => {
  const bytes = Buffer.allocUnsafeSlow(length)
  readFully(fd, bytes, from)
  return bytes
}

/** Writes a whole file. Throws like node:fs if there is no memory. */
export const write = (fd: number, boot: Boot, state: unknown, sections: ReadonlyArray<Buffer>): void => {
  const texts = [boot, state].map((value) => Buffer.from(JSON.stringify(value)))
  const prefix = Buffer.alloc(prefixBytes)
  name.copy(prefix)
  for (const [index, value] of [version, ...texts.map(({ length }) => length)].entries()) {
    prefix.writeUInt32LE(value, 8 + 4 * index)
  }
  let rest: ReadonlyArray<Buffer> = [prefix, ...texts, ...sections].filter(({ length }) => length > 0)
  let at = 0
  while (rest.length > 0) {
    let written = writevSync(fd, rest.slice(0, maxBuffers), at)
    at += written
    let whole = 0
    while (whole < rest.length && written >= (rest[whole]?.length ?? 0)) written -= rest[whole++]?.length ?? 0
    const [first, ...others] = rest.slice(whole)
    rest = first === undefined ? [] : [first.subarray(written), ...others]
  }
}
