/**
 * The handlers of the requests on files.
 *
 * Requests of one session take their place among those on its files in their first, synchronous part: in the order they
 * arrive. What changes files is carried out once it was received, also when its connection ends; what copies files or
 * removes trees ends with its session, and what only reads them with its connection.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AccessQueue } from "../filesystem/AccessQueue.js"
import { FileSystem, type Files } from "../filesystem/FileSystem.js"
import { Handles } from "../filesystem/Handles.js"
import { type Failure, FileRefused } from "../protocol/Failure.js"
import { FileSystemApi, maxBlockBytes, maxFileBytes } from "../protocol/FileSystemApi.js"
import { type FilePath, formatBytes } from "../protocol/PathUri.js"
import type { Sandbox } from "../protocol/Sandbox.js"
import * as Unenforced from "../protocol/Unenforced.js"
import * as Confiner from "../sandbox/Confiner.js"
import * as Base64 from "./Base64.js"
import { type Connection, CurrentConnection } from "./CurrentConnection.js"
import { initialized } from "./Handshake.js"
import { MissingWatches } from "./MissingWatches.js"
import type { Session } from "./SessionRegistry.js"

/** What a listing reserves of the response budget, in bytes: its size is not known before it is made. */
const listingBytes = 1048576

/** What a request says of the files it may reach. */
interface Limits {
  readonly sandbox?: Sandbox | undefined
  readonly sandboxPolicy?: unknown
}

/** Of requests on open files: these were limited when they were opened. */
const unlimited: Limits = {}

/** What a request needs of its connection. */
interface Access {
  readonly queue: AccessQueue
  readonly handles: Handles
  readonly watches: MissingWatches
  readonly connection: Connection
}

/** The same, and the files that the sandbox of the request leaves it; they are there as long as the scope. */
interface Permitted extends Access {
  readonly files: Effect.Effect<Files, Failure, Scope.Scope>
  readonly session: Session
}

const checkBlock = (what: "read" | "write", length: number): Effect.Effect<void, Failure> =>
  length >= 1 && length <= maxBlockBytes
    ? Effect.void
    : new FileRefused({ message: `file ${what} block length must be between 1 and ${maxBlockBytes}` })

const done = Effect.as({})

/** The handlers. What they start belongs to the scope at hand, and outlives connections. */
export const make = Effect.gen(function* () {
  const allFiles = yield* FileSystem
  const { confine } = yield* Confiner.forFiles(allFiles)
  const scope = yield* Effect.scope
  const queues = new WeakMap<Session, AccessQueue>()
  const accesses = new WeakMap<Connection, Access>()

  const queueOf = (session: Session): AccessQueue => {
    const queue = queues.get(session) ?? new AccessQueue()
    queues.set(session, queue)
    return queue
  }

  const accessOf = (session: Session, connection: Connection): Access => {
    const known = accesses.get(connection)
    if (known !== undefined) return known
    const queue = queueOf(session)
    const handles = new Handles(scope)
    const watches = new MissingWatches(allFiles.watchMissing, connection.notify)
    const access = { queue, handles, watches, connection }
    accesses.set(connection, access)
    connection.onEnd(watches.end)
    // After all requests that were received before.
    connection.onEnd(Effect.asVoid(queue.enqueue(handles.closeAll, scope)))
    return access
  }

  /** What a sandbox leaves of the files; every request on files passes here. The network is of no concern to them. */
  const filesIn = (
    session: Session,
    limits: Limits,
    use: "read" | "write"
  ): Effect.Effect<Files, Failure, Scope.Scope> => {
    const refusal = Unenforced.refusal(limits, "files")
    if (refusal !== undefined) return refusal
    return Effect.flatMap(confine(limits.sandbox, use), (confinement) =>
      confinement === undefined ? Effect.succeed(allFiles) : session.views.open(confinement)
    )
  }

  /** The access of the connection at hand, once it may be used. */
  const enter = (limits: Limits, use: "read" | "write"): Effect.Effect<Permitted, Failure> =>
    Effect.gen(function* () {
      const { session } = yield* initialized
      return { ...accessOf(session, yield* CurrentConnection), session, files: filesIn(session, limits, use) }
    })

  /** Runs a read, concurrently with other reads. */
  const read = <A>(
    limits: Limits,
    use: (access: Permitted) => Effect.Effect<A, Failure, Scope.Scope>
  ): Effect.Effect<A, Failure> =>
    Effect.flatMap(enter(limits, "read"), (access) =>
      access.queue.read(Effect.scoped(Effect.suspend(() => use(access))))
    )

  /** Runs a change, exclusively; or what is no change of files, but one of what is open. */
  const write = <A>(
    limits: Limits,
    use: (access: Permitted) => Effect.Effect<A, Failure, Scope.Scope>,
    files: "read" | "write" = "write"
  ): Effect.Effect<A, Failure> =>
    Effect.flatMap(enter(limits, files), (access) =>
      access.queue.write(Effect.scoped(Effect.suspend(() => use(access))), scope)
    )

  const list = <A>(limits: Limits, use: (files: Files) => Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
    read(limits, ({ connection, files }) =>
      Effect.zipRight(connection.responseBudget.reserve(listingBytes), Effect.flatMap(files, use))
    )

  const look = <A>(limits: Limits, use: (files: Files) => Effect.Effect<A, Failure>) =>
    read(limits, ({ files }) => Effect.flatMap(files, use))

  const change = (limits: Limits, use: (files: Files) => Effect.Effect<void, Failure>) =>
    write(limits, ({ files }) => done(Effect.flatMap(files, use)))

  /** A change that can take long: nobody can stop it but by the end of the session. */
  const longChange = (limits: Limits, use: (files: Files) => Effect.Effect<void, Failure>) =>
    write(limits, ({ files, session }) => done(session.untilEnd(Effect.flatMap(files, use))))

  return FileSystemApi.of({
    "fs/readFile": ({ path, followSymlinks = true, ...limits }) =>
      read(limits, ({ connection: { responseBudget, maxContentBytes }, files }) =>
        Effect.gen(function* () {
          const file = yield* (yield* files).open(path.bytes, "read", { followSymlinks })
          const limit = Math.min(maxFileBytes, maxContentBytes)
          yield* responseBudget.reserve(Math.min(file.size, limit))
          return { dataBase64: yield* file.readAll(limit) }
        })
      ),

    "fs/writeFile": ({ path, dataBase64, followSymlinks = true, ...limits }) =>
      write(limits, ({ files }) =>
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
      change(limits, (files) => files.createDirectory(path.bytes, { recursive, followSymlinks })),

    "fs/getMetadata": ({ path, followSymlinks = true, ...limits }) =>
      look(limits, (files) => files.getMetadata(path.bytes, { followSymlinks })),

    "fs/canonicalize": ({ path, ...limits }) =>
      look(limits, (files) =>
        Effect.map(files.canonicalize(path.bytes), (bytes) => ({ path: formatBytes(bytes, path.form) }))
      ),

    "fs/readDirectory": ({ path, ...limits }) =>
      list(limits, (files) =>
        Effect.map(files.readDirectory(path.bytes), (entries) => ({
          entries: entries.map(({ name, isDirectory, isFile }) => ({ fileName: name.toString(), isDirectory, isFile }))
        }))
      ),

    "fs/walk": ({ path, options, ...limits }) =>
      list(limits, (files) =>
        Effect.map(files.walk(path.bytes, options), ({ entries, errors, truncated }) => {
          const format = <E extends { readonly path: FilePath["bytes"] }>(found: E) => ({
            ...found,
            path: formatBytes(found.path, path.form)
          })
          return { entries: entries.map(format), errors: errors.map(format), truncated }
        })
      ),

    "fs/remove": ({ path, recursive = true, force = true, followSymlinks = true, ...limits }) =>
      longChange(limits, (files) => files.remove(path.bytes, { recursive, force, followSymlinks })),

    "fs/copy": ({ sourcePath, destinationPath, recursive, ...limits }) =>
      longChange(limits, (files) => files.copy(sourcePath.bytes, destinationPath.bytes, recursive)),

    "fs/open": ({ handleId, path, mode = "read", ...limits }) =>
      write(
        limits,
        ({ handles, files }) => {
          const open = Effect.flatMap(files, (found) => found.open(path.bytes, mode, { followSymlinks: true }))
          return Effect.as(handles.add(handleId, open), { handleId })
        },
        mode === "read" ? "read" : "write"
      ),

    "fs/readBlock": ({ handleId, offset, len }) =>
      read(unlimited, ({ handles, connection }) =>
        Effect.gen(function* () {
          yield* checkBlock("read", len)
          const file = yield* handles.get(handleId)
          yield* connection.responseBudget.reserve(len)
          const chunk = yield* file.read(offset, len)
          return { chunk, eof: chunk.length < len }
        })
      ),

    "fs/writeBlock": ({ handleId, offset, chunk }) =>
      write(unlimited, ({ handles }) =>
        Effect.gen(function* () {
          yield* checkBlock("write", chunk.length)
          yield* (yield* handles.get(handleId)).write(offset, chunk)
          return {}
        })
      ),

    "fs/watchMissing": ({ watchId, missing, present }) =>
      read(unlimited, ({ watches }) =>
        watches.watch(watchId, { missing: missing.map(({ bytes }) => bytes), present: present?.bytes })
      ),

    "fs/close": ({ handleId }) => write(unlimited, ({ handles }) => done(handles.close(handleId)))
  })
})
