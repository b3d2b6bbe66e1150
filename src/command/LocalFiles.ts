/**
 * The local side of `cp`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { maxBlockBytes } from "../protocol/FileSystemApi.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed } from "./CommandExit.js"

const attempt = <A>(path: string, use: () => Promise<A>): Effect.Effect<A, CommandFailed> =>
  Effect.tryPromise({
    try: use,
    catch: (error) => new CommandFailed({ message: `${path}: ${OsError.describe(error)}` })
  })

/** The target of a path; pipes, sockets and devices are neither a directory nor a file. */
export interface Inspected {
  readonly isDirectory: boolean
  readonly isFile: boolean
  /** In bytes; null if the server does not send it. */
  readonly size: number | null
  readonly modifiedAtMs: number
}

/** Examines the target of a path. */
export const inspect = (path: string): Effect.Effect<Inspected, CommandFailed> =>
  Effect.map(
    attempt(path, () => stat(path)),
    (found) => ({
      isDirectory: found.isDirectory(),
      isFile: found.isFile(),
      size: found.size,
      modifiedAtMs: Math.floor(found.mtimeMs)
    })
  )

const isOther = (entry: { isDirectory: () => boolean; isFile: () => boolean }) =>
  !entry.isDirectory() && !entry.isFile()

/** An entry below a directory: its path, and the names that lead to it. */
export interface Found {
  readonly path: string
  readonly names: ReadonlyArray<Buffer>
}

/** All entries below a directory, parents first; `skipped` counts links and special files. */
export interface Walked {
  readonly directories: ReadonlyArray<Found>
  readonly files: ReadonlyArray<Found>
  readonly skipped: number
}

/** Lists a tree, parents first; `skipped` counts links and special files. */
export const walk = (root: string): Effect.Effect<Walked, CommandFailed> =>
  Effect.gen(function* () {
    const directories: Array<Found> = []
    const files: Array<Found> = []
    let skipped = 0
    const top: Found = { path: root, names: [] }
    for (let folder: Found | undefined = top, next = 0; folder !== undefined; folder = directories[next++]) {
      const { path, names } = folder
      const entries = yield* attempt(path, () => readdir(path, { withFileTypes: true }))
      for (const entry of entries) {
        const found = { path: join(path, entry.name), names: [...names, Buffer.from(entry.name)] }
        if (isOther(entry)) skipped++
        else if (entry.isFile()) files.push(found)
        else directories.push(found)
      }
    }
    return { directories, files, skipped }
  })

/** Creates a directory and its parents. */
export const createDirectory = (path: string): Effect.Effect<void, CommandFailed> =>
  Effect.asVoid(attempt(path, () => mkdir(path, { recursive: true })))

const close = (handle: FileHandle) => Effect.promise(() => handle.close())

/** Streams the content of a file. */
export const read = (path: string): Stream.Stream<Buffer, CommandFailed> =>
  Stream.unwrapScoped(
    Effect.map(
      Effect.acquireRelease(
        attempt(path, () => open(path, "r")),
        close
      ),
      (handle) =>
        Stream.repeatEffectOption(
          Effect.flatMap(
            Effect.mapError(
              attempt(path, () => handle.read(Buffer.allocUnsafe(maxBlockBytes), 0, maxBlockBytes)),
              Option.some
            ),
            ({ bytesRead, buffer }) =>
              bytesRead === 0 ? Effect.fail(Option.none()) : Effect.succeed(buffer.subarray(0, bytesRead))
          )
        )
    )
  )

/** Creates or replaces a file atomically, by renaming a temporary file. `shown` is its path in messages. */
export const write = <E>(
  path: string | Buffer,
  content: Stream.Stream<Buffer, E>,
  shown: string = path.toString()
): Effect.Effect<void, CommandFailed | E> => {
  // In the same directory, so that rename(2) works; it replaces a link and does not follow it.
  const part = Buffer.concat([Buffer.from(path), Buffer.from(`.part-${randomUUID().slice(0, 8)}`)])
  const writeAll = (handle: FileHandle) =>
    Stream.runForEach(content, (chunk) => attempt(shown, () => handle.writeFile(chunk)))
  return Effect.acquireUseRelease(
    attempt(shown, () => open(part, "wx")),
    (handle) =>
      Effect.zipRight(
        writeAll(handle),
        attempt(shown, () => rename(part, path))
      ),
    (handle, exit) =>
      Effect.zipRight(
        close(handle),
        Exit.isSuccess(exit) ? Effect.void : Effect.promise(() => rm(part, { force: true }))
      )
  )
}
