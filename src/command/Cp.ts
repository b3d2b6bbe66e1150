/**
 * `cp`: copies files to or from a server.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { basename, join } from "node:path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ClientError } from "../client/ClientError.js"
import type { Files } from "../client/Files.js"
import * as ServerNames from "../client/ServerNames.js"
import * as PlainText from "../internal/PlainText.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as LocalFiles from "./LocalFiles.js"
import * as LocalTree from "./LocalTree.js"
import * as Table from "./Table.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `cp`; a path on the server is written `:PATH`. */
export interface Options {
  readonly target: Target.Target
  readonly source: string
  readonly destination: string
  readonly recursive: boolean
  readonly json: boolean
}

/** The destination of a tree. */
interface Tree {
  /** Creates a directory in an existing one, unless it exists. */
  readonly createDirectory: (names: LocalTree.Names) => Effect.Effect<void, Fault>
  readonly write: (names: LocalTree.Names, content: Stream.Stream<Buffer, Fault>) => Effect.Effect<void, Fault>
}

/** The file operations that a copy needs, on this machine or on the server. */
interface Side {
  readonly inspect: (path: string) => Effect.Effect<LocalFiles.Inspected, Fault>
  readonly walk: (path: string) => Effect.Effect<LocalFiles.Walked, Fault>
  /** A directory to copy into. Creates it and its parents if missing. */
  readonly tree: (path: string) => Effect.Effect<Tree, Fault, Scope.Scope>
  readonly read: (path: string) => Stream.Stream<Buffer, Fault>
  /**
   * A file may exceed its reported size by this many bytes, or by that size again: it may grow meanwhile, and files in
   * /proc report 0. Without a limit, a hostile server could fill the disk.
   */
  readonly mayGrowBytes: number
  readonly write: (path: string, content: Stream.Stream<Buffer, Fault>) => Effect.Effect<void, Fault>
}

type Fault = CommandFailed | ClientError

/** The interval between progress updates, in milliseconds. */
const progressMs = 100

/** The longest file name in a progress line, in characters. */
const maxName = 40

/** Adds the path to a server's error. */
const about = <A>(path: string, effect: Effect.Effect<A, ClientError>): Effect.Effect<A, Fault> =>
  Effect.mapError(effect, (error) =>
    error._tag === "ServerError" ? new CommandFailed({ message: `:${path}: ${error.reason}` }) : error
  )

const writeTo = (files: Files, path: string, content: Stream.Stream<Buffer, Fault>) =>
  Effect.mapError(files.write(path, content), (error) =>
    error._tag === "ServerError" ? new CommandFailed({ message: `:${path}: ${error.reason}` }) : error
  )

const localSide: Side = { ...LocalFiles, tree: LocalTree.open, mayGrowBytes: Number.POSITIVE_INFINITY }

const remoteSide = (files: Files): Side => ({
  inspect: (path) => about(path, files.getMetadata(path)),
  walk: (path) =>
    Effect.flatMap(about(path, files.walk(path)), ({ entries, errors, truncated }) => {
      const [error] = errors
      if (error !== undefined) return new CommandFailed({ message: `:${error.path}: ${error.message}` })
      if (truncated)
        return new CommandFailed({
          message: `:${path}: the directory is too large: the server lists only a part of it`
        })
      return Either.match(ServerNames.check(path, entries), {
        onLeft: (message) => new CommandFailed({ message: `:${path}: ${message}` }),
        onRight: (listed) =>
          Effect.succeed({
            directories: listed.filter(({ kind }) => kind === "directory"),
            files: listed.filter(({ kind }) => kind === "file"),
            skipped: 0
          })
      })
    }),
  tree: (path) => {
    const at = (names: LocalTree.Names) => join(path, ...names.map(String))
    return Effect.as(about(path, files.createDirectory(path)), {
      createDirectory: (names) => about(at(names), files.createDirectory(at(names))),
      write: (names, content) => writeTo(files, at(names), content)
    })
  },
  read: (path) =>
    Stream.mapError(files.read(path), (error) =>
      error._tag === "ServerError" ? new CommandFailed({ message: `:${path}: ${error.reason}` }) : error
    ),
  mayGrowBytes: 67108864,
  write: (path, content) => writeTo(files, path, content)
})

/** Shows the progress of a copy at a terminal. */
class Progress {
  bytes = 0
  private shownAt = 0

  constructor(private readonly isShown: boolean) {}

  add(name: string, size: number | null, done: number, length: number, now: number): void {
    this.bytes += length
    if (!this.isShown || now - this.shownAt < progressMs) return
    this.shownAt = now
    const short = name.length > maxName ? `...${name.slice(-maxName)}` : name
    const share = size !== null && size > 0 ? ` ${Math.min(100, Math.floor((done / size) * 100))} %` : ""
    process.stderr.write(`\r\u001b[K${PlainText.plain(short)} ${Table.bytes(done)}${share}`)
  }

  end(): void {
    if (this.isShown && this.shownAt > 0) process.stderr.write("\r\u001b[K")
  }
}

/** Copies a file. `write` receives its content. */
const copyFile = (
  from: Side,
  source: string,
  write: (content: Stream.Stream<Buffer, Fault>) => Effect.Effect<void, Fault>,
  progress: Progress
) =>
  Effect.gen(function* () {
    const { size } = yield* from.inspect(source)
    const limit = size === null ? Number.POSITIVE_INFINITY : size + Math.max(size, from.mayGrowBytes)
    let done = 0
    const content = Stream.tap(from.read(source), (chunk) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        done += chunk.length
        if (done > limit) {
          const message = `:${source}: is said to have ${size} bytes and has more than ${limit}; it is not copied`
          return new CommandFailed({ message })
        }
        return Effect.sync(() => progress.add(basename(source), size, done, chunk.length, now))
      })
    )
    yield* write(content)
  })

/** The existing destination, if any. Fails if it is a special file: these are not replaced. */
const existingAt = (side: Side, path: string, shown: string) =>
  Effect.filterOrFail(
    Effect.option(side.inspect(path)),
    (found) => Option.isNone(found) || found.value.isDirectory || found.value.isFile,
    () => new CommandFailed({ message: `${shown}: is neither a file nor a directory; it is not replaced` })
  )

/** Copies a file, or with `recursive` a directory, and prints what was copied. */
export const copy = ({ target, source, destination, recursive, json }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const isUpload = destination.startsWith(":")
      if (source.startsWith(":") === isUpload) {
        const message = "exactly one path must be on the server, written with a colon: exec-server cp FILE :PATH"
        return yield* new UsageError({ message })
      }
      const environment = yield* Target.connect(target)
      const server = remoteSide(environment.files)
      const there = (path: string) => Target.pathIn(environment, path.slice(1) || ".")
      const [from, to]: readonly [Side, Side] = isUpload ? [localSide, server] : [server, localSide]
      const root = isUpload ? source : there(source)
      const wanted = isUpload ? there(destination) : destination
      const existing = yield* existingAt(to, wanted, destination)
      // Copy into an existing directory, like cp(1).
      const into = Option.isSome(existing) && existing.value.isDirectory
      const base = into ? join(wanted, basename(root)) : wanted

      const progress = new Progress(process.stderr.isTTY === true && !json)
      const startedAt = yield* Clock.currentTimeMillis
      const { isDirectory, isFile, size, modifiedAtMs } = yield* from.inspect(root)
      if (!isDirectory && !isFile) {
        return yield* new CommandFailed({ message: `${source}: is neither a file nor a directory; it is not copied` })
      }
      const copied = Effect.gen(function* () {
        if (!isDirectory) {
          const replaced = Option.getOrUndefined(into ? yield* existingAt(to, base, destination) : existing)
          // The server truncates the destination first. If that is the source, its content would be lost.
          const isSame = (one: LocalFiles.Inspected) =>
            (one.size === size || one.size === null || size === null) && one.modifiedAtMs === modifiedAtMs
          if (replaced?.isFile === true && isSame(replaced)) {
            return yield* new CommandFailed({
              message: `${source} and ${destination} are the same file, by size and modification time; nothing was copied`
            })
          }
          yield* copyFile(from, root, (content) => to.write(base, content), progress)
          return { files: 1, skipped: 0 }
        }
        if (!recursive) return yield* new UsageError({ message: `${source} is a directory; give --recursive` })
        const { directories, files, skipped } = yield* from.walk(root)
        // In a named directory: links found there are not followed, unlike one named on the command line.
        const tree = yield* to.tree(wanted)
        const top = into && basename(root) !== "" ? [Buffer.from(basename(root))] : []
        if (top.length > 0) yield* tree.createDirectory(top)
        for (const { names } of directories) yield* tree.createDirectory([...top, ...names])
        for (const { path, names } of files) {
          yield* copyFile(from, path, (content) => tree.write([...top, ...names], content), progress)
        }
        return { files: files.length, skipped }
      })
      const { files, skipped } = yield* Effect.ensuring(
        copied,
        Effect.sync(() => progress.end())
      )
      const ms = (yield* Clock.currentTimeMillis) - startedAt
      if (json) yield* Terminal.write("stdout", `${PlainText.json({ files, skipped, bytes: progress.bytes, ms })}\n`)
      else if (process.stderr.isTTY === true) {
        yield* Terminal.say(`${files} ${files === 1 ? "file" : "files"}, ${Table.bytes(progress.bytes)}, in ${ms} ms`)
      }
      if (skipped > 0 && !json) yield* Terminal.say(`${skipped} links and special files were skipped`)
    })
  )
