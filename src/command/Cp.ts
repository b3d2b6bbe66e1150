/**
 * `cp`: copies files to or from a server.
 *
 * @since 0.1.0
 */
import { basename, join, posix } from "node:path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ClientError } from "../client/ClientError.js"
import type { Files } from "../client/Files.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as LocalFiles from "./LocalFiles.js"
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

/** The file operations that a copy needs, on this machine or on the server. */
interface Side {
  readonly inspect: (path: string) => Effect.Effect<LocalFiles.Inspected, Fault>
  readonly walk: (
    path: string
  ) => Effect.Effect<{ directories: ReadonlyArray<string>; files: ReadonlyArray<string>; skipped: number }, Fault>
  readonly createDirectory: (path: string) => Effect.Effect<void, Fault>
  readonly read: (path: string) => Stream.Stream<Buffer, Fault>
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
      const of = (wanted: "file" | "directory") =>
        entries.filter(({ kind }) => kind === wanted).map((entry) => posix.relative(path, entry.path))
      return Effect.succeed({ directories: of("directory"), files: of("file"), skipped: 0 })
    }),
  createDirectory: (path) => about(path, files.createDirectory(path)),
  read: (path) =>
    Stream.mapError(files.read(path), (error) =>
      error._tag === "ServerError" ? new CommandFailed({ message: `:${path}: ${error.reason}` }) : error
    ),
  write: (path, content) =>
    Effect.mapError(files.write(path, content), (error) =>
      error._tag === "ServerError" ? new CommandFailed({ message: `:${path}: ${error.reason}` }) : error
    )
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
    process.stderr.write(`\r\u001b[K${Table.plain(short)} ${Table.bytes(done)}${share}`)
  }

  end(): void {
    if (this.isShown && this.shownAt > 0) process.stderr.write("\r\u001b[K")
  }
}

const copyFile = (from: Side, source: string, to: Side, destination: string, progress: Progress) =>
  Effect.gen(function* () {
    const { size } = yield* from.inspect(source)
    let done = 0
    const content = Stream.tap(from.read(source), (chunk) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        done += chunk.length
        progress.add(basename(source), size, done, chunk.length, now)
      })
    )
    yield* to.write(destination, content)
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
      const [from, to]: readonly [Side, Side] = isUpload ? [LocalFiles, server] : [server, LocalFiles]
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
          yield* copyFile(from, root, to, base, progress)
          return { files: 1, skipped: 0 }
        }
        if (!recursive) return yield* new UsageError({ message: `${source} is a directory; give --recursive` })
        const { directories, files, skipped } = yield* from.walk(root)
        yield* to.createDirectory(base)
        for (const directory of directories) yield* to.createDirectory(join(base, directory))
        for (const file of files) yield* copyFile(from, join(root, file), to, join(base, file), progress)
        return { files: files.length, skipped }
      })
      const { files, skipped } = yield* Effect.ensuring(
        copied,
        Effect.sync(() => progress.end())
      )
      const ms = (yield* Clock.currentTimeMillis) - startedAt
      if (json) yield* Terminal.write("stdout", `${JSON.stringify({ files, skipped, bytes: progress.bytes, ms })}\n`)
      else if (process.stderr.isTTY === true) {
        yield* Terminal.say(`${files} ${files === 1 ? "file" : "files"}, ${Table.bytes(progress.bytes)}, in ${ms} ms`)
      }
      if (skipped > 0 && !json) yield* Terminal.say(`${skipped} links and special files were skipped`)
    })
  )
