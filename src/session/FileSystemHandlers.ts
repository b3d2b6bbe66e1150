/**
 * The handlers of file requests.
 *
 * The first, synchronous part of a request queues it among the file requests of its session, which keeps their order. A
 * received change is carried out even if its connection ends; a copy or a removal ends with its session, a read with
 * its connection.
 *
 * A worker process of the session serves paths whose file system may hang (`SlowMounts`). They have a queue of their
 * own: requests on them and on other paths do not wait for each other.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AccessQueue, JointQueue, type Queue } from "../filesystem/AccessQueue.js"
import { FileSystem, type Files } from "../filesystem/FileSystem.js"
import { Handles } from "../filesystem/Handles.js"
import type { NativePath } from "../filesystem/NativePath.js"
import { type Failure, FileFailed, FileNotFound, FileRefused } from "../protocol/Failure.js"
import { FileSystemApi, maxBlockBytes, maxFileBytes } from "../protocol/FileSystemApi.js"
import { type FilePath, formatBytes } from "../protocol/PathUri.js"
import type { Sandbox } from "../protocol/Sandbox.js"
import * as SystemText from "../protocol/SystemText.js"
import * as Unenforced from "../protocol/Unenforced.js"
import * as Confiner from "../sandbox/Confiner.js"
import { SessionWaits } from "../spawn/SessionWaits.js"
import { SlowMounts } from "../spawn/SlowMounts.js"
import * as Base64 from "./Base64.js"
import { type Connection, CurrentConnection } from "./CurrentConnection.js"
import { initialized } from "./Handshake.js"
import { MissingWatches } from "./MissingWatches.js"
import type { Session } from "./SessionRegistry.js"

/** The bytes of the response budget that a listing reserves: its size is unknown in advance. */
const listingBytes = 1048576

/** The restrictions in a request. */
interface Limits {
  readonly sandbox?: Sandbox | undefined
  readonly sandboxPolicy?: unknown
}

/** Which paths a request touches: none whose file system may hang, only such ones, or both kinds. */
type Pace = "fast" | "slow" | "both"

/** The queues of a session. */
type Queues = { readonly [pace in Pace]: Queue }

const makeQueues = (): Queues => {
  const [fast, slow] = [new AccessQueue(), new AccessQueue()]
  return { fast, slow, both: new JointQueue(fast, slow) }
}

/** The queues of a connection's handles. A request on an open file is queued after its opening. */
class HandlePaces {
  private readonly paces = new Map<string, { readonly pace: Pace; opens: number }>()

  of(handleId: string): Pace {
    return this.paces.get(handleId)?.pace ?? "fast"
  }

  /** Called before a file is opened; returns its queue, which is `otherwise` if the id is not in use. */
  opens(handleId: string, otherwise: Pace): Pace {
    const known = this.paces.get(handleId) ?? { pace: otherwise, opens: 0 }
    known.opens++
    this.paces.set(handleId, known)
    return known.pace
  }

  /** Called when it was closed, or could not be opened. */
  closed(handleId: string): void {
    const known = this.paces.get(handleId)
    if (known !== undefined && --known.opens === 0) this.paces.delete(handleId)
  }
}

/** The context of a request. */
interface Access {
  readonly queues: Queues
  readonly handles: Handles
  readonly handlePaces: HandlePaces
  readonly watches: MissingWatches
  readonly connection: Connection
}

/** What a request touches. */
interface Target {
  readonly limits: Limits
  readonly paths: ReadonlyArray<NativePath>
  /** Only the paths, also everything below them, or also the targets of links below them. */
  readonly reach?: "paths" | "trees" | "anywhere"
}

/** The same, and the files that the sandbox of the request leaves it, which are available until the scope closes. */
interface Permitted extends Access {
  readonly files: Effect.Effect<Files, Failure, Scope.Scope>
  readonly session: Session
}

const checkBlock = (what: "read" | "write", length: number): Effect.Effect<void, Failure> =>
  length >= 1 && length <= maxBlockBytes
    ? Effect.void
    : new FileRefused({ message: `file ${what} block length must be between 1 and ${maxBlockBytes}` })

const done = Effect.as({})

/** Names the paths of the request in the errors of system calls; the failures of sandboxes name theirs themselves. */
const naming = <A, R>(
  paths: ReadonlyArray<NativePath>,
  effect: Effect.Effect<A, Failure, R>
): Effect.Effect<A, Failure, R> =>
  Effect.mapError(effect, (failure) => {
    const named = { message: SystemText.about(failure.message, paths.join(" to ")) }
    switch (failure._tag) {
      case "FileNotFound":
        return new FileNotFound(named)
      case "FileRefused":
        return new FileRefused(named)
      case "FileFailed":
        return new FileFailed(named)
      default:
        return failure
    }
  })

/** The handlers. Their background work belongs to the current scope and outlives connections. */
export const make = Effect.gen(function* () {
  const allFiles = yield* FileSystem
  const { confine } = yield* Confiner.forFiles(allFiles)
  const scope = yield* Effect.scope
  const mounts = yield* SlowMounts
  const allQueues = new WeakMap<Session, Queues>()
  const accesses = new WeakMap<Connection, Access>()

  const queuesOf = (session: Session): Queues => {
    const queues = allQueues.get(session) ?? makeQueues()
    allQueues.set(session, queues)
    return queues
  }

  const isSlow = (path: NativePath): boolean => mounts.find(path) !== undefined

  const paceOf = ({ paths, reach = "paths" }: Target): Pace => {
    if (!allFiles.isConfinable || !mounts.isPresent()) return "fast"
    if (paths.every(isSlow)) return "slow"
    const isPartlySlow = reach === "paths" ? isSlow : (path: NativePath) => mounts.findWithin(path) !== undefined
    return paths.some(isPartlySlow) ? "both" : "fast"
  }

  /** Whether a worker must run it, because a call may hang. */
  const mayHang = (target: Target): boolean =>
    target.reach === "anywhere" ? allFiles.isConfinable && mounts.isPresent() : paceOf(target) !== "fast"

  /** Without an inotify watch, the client has to poll. */
  const watchUnlessSlow =
    (watch: NonNullable<Files["watchMissing"]>): Files["watchMissing"] =>
    (watched, onChange) =>
      Effect.suspend(() => {
        const paths = watched.present === undefined ? watched.missing : [...watched.missing, watched.present]
        return paths.some(isSlow) ? Effect.succeed(false) : watch(watched, onChange)
      })
  const watchMissing = allFiles.watchMissing && watchUnlessSlow(allFiles.watchMissing)

  const accessOf = (session: Session, connection: Connection): Access => {
    const known = accesses.get(connection)
    if (known !== undefined) return known
    const queues = queuesOf(session)
    const handles = new Handles(scope)
    const handlePaces = new HandlePaces()
    const watches = new MissingWatches(watchMissing, connection.notify)
    const access = { queues, handles, handlePaces, watches, connection }
    accesses.set(connection, access)
    connection.onEnd(watches.end)
    connection.holds("open files", () => handles.size)
    connection.holds("watches of files", () => watches.size)
    // After all requests that were received before.
    for (const pace of ["fast", "slow"] as const) {
      const closing = handles.closeAll((handleId) => handlePaces.of(handleId) === pace)
      connection.onEnd(Effect.asVoid(queues[pace].enqueue(closing, scope)))
    }
    return access
  }

  /** The files that a sandbox leaves; every file request passes here. Network restrictions do not apply to them. */
  const filesIn = (
    session: Session,
    target: Target,
    use: "read" | "write"
  ): Effect.Effect<Files, Failure, Scope.Scope> => {
    const { supervisor, views } = session
    const { sandbox } = target.limits
    const refusal = Unenforced.refusal(target.limits, "files")
    if (refusal !== undefined) return refusal
    const unconfined = Effect.suspend(() =>
      views.unconfined !== undefined && mayHang(target) ? views.unconfined : Effect.succeed(allFiles)
    )
    if (sandbox === undefined) return unconfined
    return confine(sandbox, use).pipe(
      Effect.provideService(SessionWaits, supervisor.waits),
      Effect.catchTag("SpawnError", ({ message }) => new FileFailed({ message })),
      Effect.flatMap((confinement) => (confinement === undefined ? unconfined : views.open(confinement)))
    )
  }

  /** The access of the current connection, once it may be used. */
  const enter = <A>(use: (access: Access, session: Session) => Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
    Effect.gen(function* () {
      const { session } = yield* initialized
      return yield* use(accessOf(session, yield* CurrentConnection), session)
    })

  /** Runs a read, concurrently with other reads. */
  const read = <A>(
    target: Target,
    use: (access: Permitted) => Effect.Effect<A, Failure, Scope.Scope>
  ): Effect.Effect<A, Failure> =>
    enter((access, session) =>
      access.queues[paceOf(target)].read(
        naming(
          target.paths,
          Effect.scoped(Effect.suspend(() => use({ ...access, session, files: filesIn(session, target, "read") })))
        )
      )
    )

  /** Runs a change of files, or of what is open, exclusively. */
  const write = <A>(
    target: Target,
    use: (access: Permitted) => Effect.Effect<A, Failure, Scope.Scope>,
    pace: (access: Access) => Pace = () => paceOf(target),
    mode: "read" | "write" = "write"
  ): Effect.Effect<A, Failure> =>
    enter((access, session) =>
      access.queues[pace(access)].write(
        naming(
          target.paths,
          Effect.scoped(Effect.suspend(() => use({ ...access, session, files: filesIn(session, target, mode) })))
        ),
        scope
      )
    )

  const list = <A>(target: Target, use: (files: Files) => Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
    read(target, ({ connection, files }) =>
      Effect.zipRight(connection.responseBudget.reserve(listingBytes), Effect.flatMap(files, use))
    )

  const look = <A>(target: Target, use: (files: Files) => Effect.Effect<A, Failure>) =>
    read(target, ({ files }) => Effect.flatMap(files, use))

  const change = (target: Target, use: (files: Files) => Effect.Effect<void, Failure>) =>
    write(target, ({ files }) => done(Effect.flatMap(files, use)))

  /** Runs a change that may take long, and stops it when the session ends. */
  const longChange = (target: Target, use: (files: Files) => Effect.Effect<void, Failure>) =>
    write(target, ({ files, session }) => done(session.untilEnd(Effect.flatMap(files, use))))

  return FileSystemApi.of({
    "fs/readFile": ({ path, followSymlinks = true, ...limits }) =>
      read({ limits, paths: [path.bytes] }, ({ connection: { responseBudget, maxContentBytes }, files }) =>
        Effect.gen(function* () {
          const file = yield* (yield* files).open(path.bytes, "read", { followSymlinks })
          const limit = Math.min(maxFileBytes, maxContentBytes)
          yield* responseBudget.reserve(Math.min(file.size, limit))
          return { dataBase64: yield* file.readAll(limit) }
        })
      ),

    "fs/writeFile": ({ path, dataBase64, followSymlinks = true, ...limits }) =>
      write({ limits, paths: [path.bytes] }, ({ files }) =>
        Effect.gen(function* () {
          const bytes = yield* Effect.mapError(
            Base64.decode(dataBase64),
            (fault) => new FileRefused({ message: `fs/writeFile requires valid base64 dataBase64: ${fault}` })
          )
          const file = yield* (yield* files).open(path.bytes, "replace", { followSymlinks })
          yield* file.write(0, bytes)
          return {}
        })
      ),

    "fs/createDirectory": ({ path, recursive = true, followSymlinks = true, ...limits }) =>
      change({ limits, paths: [path.bytes] }, (files) =>
        files.createDirectory(path.bytes, { recursive, followSymlinks })
      ),

    "fs/getMetadata": ({ path, followSymlinks = true, ...limits }) =>
      look({ limits, paths: [path.bytes] }, (files) => files.getMetadata(path.bytes, { followSymlinks })),

    "fs/canonicalize": ({ path, ...limits }) =>
      look({ limits, paths: [path.bytes] }, (files) =>
        Effect.map(files.canonicalize(path.bytes), (bytes) => ({ path: formatBytes(bytes, path.form) }))
      ),

    "fs/readDirectory": ({ path, ...limits }) =>
      list({ limits, paths: [path.bytes], reach: "anywhere" }, (files) =>
        Effect.map(files.readDirectory(path.bytes), (entries) => ({
          entries: entries.map(({ name, isDirectory, isFile }) => ({ fileName: name.toString(), isDirectory, isFile }))
        }))
      ),

    "fs/walk": ({ path, options, ...limits }) =>
      list({ limits, paths: [path.bytes], reach: options.followDirectorySymlinks ? "anywhere" : "trees" }, (files) =>
        Effect.map(files.walk(path.bytes, options), ({ entries, errors, truncated }) => {
          const format = <E extends { readonly path: FilePath["bytes"] }>(found: E) => ({
            ...found,
            path: formatBytes(found.path, path.form)
          })
          return { entries: entries.map(format), errors: errors.map(format), truncated }
        })
      ),

    "fs/remove": ({ path, recursive = true, force = true, followSymlinks = true, ...limits }) =>
      longChange({ limits, paths: [path.bytes], reach: recursive ? "trees" : "paths" }, (files) =>
        files.remove(path.bytes, { recursive, force, followSymlinks })
      ),

    "fs/copy": ({ sourcePath, destinationPath, recursive, ...limits }) =>
      // The destination may be a link.
      longChange(
        { limits, paths: [sourcePath.bytes, destinationPath.bytes], reach: recursive ? "anywhere" : "paths" },
        (files) => files.copy(sourcePath.bytes, destinationPath.bytes, recursive)
      ),

    "fs/open": ({ handleId, path, mode = "read", ...limits }) => {
      const target: Target = { limits, paths: [path.bytes] }
      return write(
        target,
        ({ handles, handlePaces, files }) => {
          const open = Effect.flatMap(files, (found) => found.open(path.bytes, mode, { followSymlinks: true }))
          return handles.add(handleId, path.bytes, open).pipe(
            Effect.onError(() => Effect.sync(() => handlePaces.closed(handleId))),
            Effect.as({ handleId })
          )
        },
        ({ handlePaces }) => handlePaces.opens(handleId, paceOf(target)),
        mode === "read" ? "read" : "write"
      )
    },

    "fs/readBlock": ({ handleId, offset, len }) =>
      enter(({ queues, handles, handlePaces, connection }) =>
        queues[handlePaces.of(handleId)].read(
          Effect.scoped(
            Effect.gen(function* () {
              yield* checkBlock("read", len)
              const { file, path } = yield* handles.get(handleId)
              yield* connection.responseBudget.reserve(len)
              const chunk = yield* naming([path], file.read(offset, len))
              return { chunk, eof: chunk.length < len }
            })
          )
        )
      ),

    "fs/writeBlock": ({ handleId, offset, chunk }) =>
      enter(({ queues, handles, handlePaces }) =>
        queues[handlePaces.of(handleId)].write(
          Effect.gen(function* () {
            yield* checkBlock("write", chunk.length)
            const { file, path } = yield* handles.get(handleId)
            yield* naming([path], file.write(offset, chunk))
            return {}
          }),
          scope
        )
      ),

    "fs/watchMissing": ({ watchId, missing, present }) =>
      enter(({ queues, watches }) =>
        queues.fast.read(
          watches.watch(watchId, { missing: missing.map(({ bytes }) => bytes), present: present?.bytes })
        )
      ),

    "fs/close": ({ handleId }) =>
      enter(({ queues, handles, handlePaces }) =>
        queues[handlePaces.of(handleId)].write(
          Effect.map(handles.close(handleId), (wasOpen) => {
            if (wasOpen) handlePaces.closed(handleId)
            return {}
          }),
          scope
        )
      )
  })
})
