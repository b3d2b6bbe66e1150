/**
 * Files of this machine, as a copy needs them.
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
import { CommandFailed } from "./Outcome.js"

const attempt = <A>(path: string, use: () => Promise<A>): Effect.Effect<A, CommandFailed> =>
  Effect.tryPromise({
    try: use,
    catch: (error) => new CommandFailed({ message: `${path}: ${OsError.describe(error)}` })
  })

/** What a path leads to: neither a directory nor a file is a pipe, a socket or a device. */
export interface Inspected {
  readonly isDirectory: boolean
  readonly isFile: boolean
  /** In bytes; null where a server does not tell it. */
  readonly size: number | null
  readonly modifiedAtMs: number
}

/** Looks where a path leads. */
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

/** Something below a directory: its path, and the names that lead to it from there. */
export interface Found {
  readonly path: string
  readonly names: ReadonlyArray<Buffer>
}

/** Everything below a directory, directories before what is in them; `skipped` are links and special files. */
export interface Walked {
  readonly directories: ReadonlyArray<Found>
  readonly files: ReadonlyArray<Found>
  readonly skipped: number
}

/** Lists everything below a directory. */
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

/** Makes a directory, with its parents. */
export const createDirectory = (path: string): Effect.Effect<void, CommandFailed> =>
  Effect.asVoid(attempt(path, () => mkdir(path, { recursive: true })))

const close = (handle: FileHandle) => Effect.promise(() => handle.close())

/** The content of a file. */
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

/** Creates a file, or replaces it once all of its content is there; `shown` is its path in messages. */
export const write = <E>(
  path: string | Buffer,
  content: Stream.Stream<Buffer, E>,
  shown: string = path.toString()
): Effect.Effect<void, CommandFailed | E> => {
  // Beside it, so that it can take its place; a link that is there is replaced, and not followed.
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
