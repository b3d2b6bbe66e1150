/**
 * What a directory has, in more detail than the protocol's own requests tell: by the programs `find`, `stat` and `mv`,
 * as every Linux has them.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import * as Effect from "effect/Effect"
import * as HeadTail from "../client/HeadTail.js"
import type { Environment } from "../environment/Environment.js"
import { codeOf, type Failure, fail, ofClient } from "./Failure.js"
import { inheritAll } from "./Place.js"

/** The most output of a program, in bytes: about 100,000 entries. */
const maxBytes = 16_777_216

/** How long a program may take, in milliseconds. */
const programMs = 30_000

/** How many links are followed at a time. */
const concurrentLinks = 8

/** The kinds of files in the bits of a mode. */
const kindMask = 0o170000
const kinds: { readonly [bits: number]: { readonly letter: string; readonly type: FileType } } = {
  [0o100000]: { letter: "-", type: "FILE_TYPE_FILE" },
  [0o040000]: { letter: "d", type: "FILE_TYPE_DIRECTORY" },
  [0o120000]: { letter: "L", type: "FILE_TYPE_SYMLINK" }
}
const otherKind = { letter: "?", type: "FILE_TYPE_UNSPECIFIED" } as const

/** Mode in hexadecimal, size, inode, owner, group, time of modification, path. */
const format = "%f\t%s\t%i\t%U\t%G\t%y\t%n//"

/** No path that `find` prints has two slashes in a row. */
const separator = "//\n"

/** The type of an entry, in E2B's names. */
export type FileType = "FILE_TYPE_UNSPECIFIED" | "FILE_TYPE_FILE" | "FILE_TYPE_DIRECTORY" | "FILE_TYPE_SYMLINK"

/** An entry, as clients get it. */
export interface EntryInfo {
  readonly name: string
  readonly type: FileType
  readonly path: string
  /** In bytes. */
  readonly size: string
  /** The bits of the permissions. */
  readonly mode: number
  readonly permissions: string
  readonly owner: string
  readonly group: string
  /** RFC 3339, with nanoseconds. */
  readonly modifiedTime: string
  readonly symlinkTarget?: string
}

/** An entry, and which file it is. */
export interface Entry {
  readonly info: EntryInfo
  readonly isLink: boolean
  readonly inode: string
}

/** Entries of an environment. */
export interface Entries {
  /** Describes a path; of a link, the link itself and the type of its target. */
  readonly stat: (path: string) => Effect.Effect<EntryInfo, Failure>
  /** What a directory has, down to a depth. */
  readonly list: (path: string, depth: number) => Effect.Effect<ReadonlyArray<EntryInfo>, Failure>
  /** The same, without following links. */
  readonly look: (path: string, depth: number) => Effect.Effect<ReadonlyArray<Entry>, Failure>
  /** Renames a file or a directory, also to another file system. Replaces a file. */
  readonly move: (source: string, destination: string) => Effect.Effect<void, Failure>
}

const permissionsOf = (mode: number, letter: string): string =>
  letter + Array.from({ length: 9 }, (_, bit) => ((mode >> (8 - bit)) & 1 ? "rwx"[bit % 3] : "-")).join("")

/** `2026-01-02 03:04:05.123456789 +0000`, with TZ=UTC0; some programs print no zone. */
const timeOf = (text: string): string => `${text.slice(0, 10)}T${text.slice(11).replace(/ .*$/, "")}Z`

const parse = (record: string): Entry | undefined => {
  const [hex = "", size = "", inode = "", owner = "", group = "", time = "", ...rest] = record.split("\t")
  const path = rest.join("\t")
  if (path === "") return undefined
  const bits = Number.parseInt(hex, 16)
  const { letter, type } = kinds[bits & kindMask] ?? otherKind
  const info = {
    name: posix.basename(path),
    type,
    path,
    size,
    mode: bits & 0o777,
    permissions: permissionsOf(bits, letter),
    owner,
    group,
    modifiedTime: timeOf(time)
  }
  return { info, isLink: type === "FILE_TYPE_SYMLINK", inode }
}

/** Makes the entries of an environment. */
export const make = ({ processes, files }: Environment): Entries => {
  /** Runs a program. Errors that are not expected fail, and are told with `what`. */
  const run = (
    what: string,
    argv: ReadonlyArray<string>,
    isExpected: (line: string) => boolean = () => false
  ): Effect.Effect<string, Failure> =>
    processes
      .startScoped({
        argv: [...argv],
        cwd: "file:///",
        env: { LC_ALL: "C", TZ: "UTC0" },
        envPolicy: inheritAll
      })
      .pipe(
        Effect.flatMap((process) => process.communicate({ maxBytes })),
        Effect.scoped,
        Effect.mapError((error) => ofClient(what, error)),
        Effect.timeoutFail({
          duration: programMs,
          onTimeout: () => fail("deadline_exceeded", `${what}: it took more than ${programMs / 1000} s`)
        }),
        Effect.flatMap(({ exit, stdout, stderr, missedBytes }) => {
          if (stdout.omittedBytes + missedBytes > 0)
            return fail("resource_exhausted", `${what}: it has too many entries`)
          const text = HeadTail.bytesOf(stdout).toString()
          if (exit.exitCode === 0) return Effect.succeed(text)
          const lines = HeadTail.bytesOf(stderr).toString().split("\n").filter(Boolean)
          const first = lines.find((line) => !isExpected(line))
          if (first === undefined && lines.length > 0) return Effect.succeed(text)
          // Programs say their name and the path first.
          const reason = first?.split(": ").at(-1) ?? `exit code ${exit.exitCode}`
          return fail(codeOf(reason), `${what}: ${reason.slice(0, 300)}`)
        })
      )

  const entriesIn = (text: string): ReadonlyArray<Entry> =>
    text
      .split(separator)
      .map(parse)
      .filter((entry) => entry !== undefined)

  /** A link has the type of its target. */
  const follow = ({ info, isLink }: Entry): Effect.Effect<EntryInfo> =>
    isLink
      ? Effect.all([files.canonicalize(info.path), files.getMetadata(info.path)]).pipe(
          Effect.map(([symlinkTarget, { isFile, isDirectory }]): EntryInfo => {
            const type = isDirectory ? "FILE_TYPE_DIRECTORY" : isFile ? "FILE_TYPE_FILE" : "FILE_TYPE_UNSPECIFIED"
            return { ...info, type, symlinkTarget }
          }),
          // Its target does not exist.
          Effect.orElseSucceed((): EntryInfo => ({ ...info, type: "FILE_TYPE_UNSPECIFIED", symlinkTarget: info.path }))
        )
      : Effect.succeed(info)

  const look = (path: string, depth: number) => {
    // With a slash, a link to a directory is followed.
    const root = path === "/" ? path : `${path}/`
    const bounds = ["-mindepth", "1", "-maxdepth", String(depth)]
    const argv = ["find", root, ...bounds, "-exec", "stat", "-c", format, "--", "{}", "+"]
    const what = `error reading directory ${path}`
    // What has gone meanwhile. Whether it is the directory itself, the line does not say reliably: it may quote the path.
    const isGone = (line: string) => codeOf(line) === "not_found"
    return Effect.tap(Effect.map(run(what, argv, isGone), entriesIn), (found) =>
      found.length > 0 ? Effect.void : Effect.mapError(files.getMetadata(path), (error) => ofClient(what, error))
    )
  }

  return {
    look,
    list: (path, depth) =>
      Effect.flatMap(look(path, depth), (found) => Effect.forEach(found, follow, { concurrency: concurrentLinks })),
    stat: (path) =>
      Effect.flatMap(run(`error getting info of ${path}`, ["stat", "-c", format, "--", path]), (text) => {
        const [entry] = entriesIn(text)
        return entry === undefined ? fail("internal", `stat said nothing about ${path}`) : follow(entry)
      }),
    move: (source, destination) =>
      Effect.asVoid(run(`error renaming ${source} to ${destination}`, ["mv", "-fT", "--", source, destination]))
  }
}
