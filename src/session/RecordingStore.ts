/**
 * The recordings of a server, in one folder: those in progress, and those that have ended, earlier runs of the server
 * included. Nothing is removed unless a client asks for it: at a limit, no further recording begins.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { closeSync, constants, mkdirSync, openSync, readdirSync, readSync, statSync } from "node:fs"
import { open, rm } from "node:fs/promises"
import { join, resolve } from "node:path"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { isRecord } from "effect/Predicate"
import * as Asciicast from "../internal/Asciicast.js"
import { maxDateMs } from "../internal/Timer.js"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import { FileFailed, LimitReached, NotAllowed } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"
import * as OsError from "../protocol/OsError.js"
import type { RecordingInfo, RecordOptions } from "../protocol/RecordingApi.js"
import { type Origin, Recording, type Surroundings } from "./Recording.js"
import type { Part, Session } from "./SessionRegistry.js"

/** How long events are collected before they are written, in milliseconds. */
const batchMs = 10

/** The most characters of all recordings that wait to be written; beyond it the disk is too slow. */
const maxWaiting = 67_108_864

/** The longest header that is read of an earlier recording, in bytes: JSON has up to six for a character, and it twice. */
const maxHeaderBytes = 65_536

/** The most characters of arguments that are kept. */
const maxArgvLength = 4096

/** The most bytes of an answer to `recording/read`. */
const maxReadBytes = 1_048_576

/** How long the end of the server waits for files, in milliseconds. */
const endMs = 2000

/**
 * The limits of recordings.
 *
 * @category models
 */
export interface Limits {
  /** Recordings, in progress or not. */
  readonly maxRecordings: number
  /** The size of all files, in bytes. */
  readonly totalBytes: number
  /** The size of one file, in bytes. */
  readonly maxBytes: number
}

/**
 * The default limits.
 *
 * @category constants
 */
export const defaults: Limits = { maxRecordings: 1000, totalBytes: 1_073_741_824, maxBytes: 67_108_864 }

/**
 * The folder of recordings cannot be used; the message says which one, and why.
 *
 * @category errors
 */
export class RecordingStoreError extends Data.TaggedError("RecordingStoreError")<{ readonly message: string }> {}

/**
 * A recording and its file.
 *
 * @category models
 */
export interface Recorded {
  readonly info: () => RecordingInfo
  /** The id of the session that it belongs to; undefined for one of an earlier run of the server. */
  readonly owner: string | undefined
  /** The subject of that session. */
  readonly subject: string | undefined
  /** Ends it, and waits until the file is closed. */
  readonly stop: Effect.Effect<void>
}

/**
 * A place among the recordings, for a process that is about to start.
 *
 * @category models
 */
export interface Reservation {
  readonly recordingId: string
  /** Begins to record. The effect completes when the file is there, and fails if it cannot be made. */
  readonly begin: (
    session: Session,
    process: ManagedProcess,
    term: string | undefined
  ) => Effect.Effect<void, FileFailed>
  /** Gives the place back. */
  readonly release: () => void
}

/**
 * The recordings of a server.
 *
 * @category models
 */
export interface Shape {
  readonly reserve: (options: RecordOptions) => Either.Either<Reservation, LimitReached>
  /** All recordings, oldest first. */
  readonly list: () => ReadonlyArray<Recorded>
  readonly find: (recordingId: string) => Recorded | undefined
  /** The recording in progress of a process. */
  readonly of: (process: ManagedProcess) => Recorded | undefined
  readonly read: (
    recorded: Recorded,
    offset: number,
    maxBytes: number
  ) => Effect.Effect<{ readonly chunk: Buffer; readonly size: number; readonly running: boolean }, FileFailed>
  readonly remove: (recorded: Recorded) => Effect.Effect<void, FileFailed>
  /** Hands them over with their sessions. */
  readonly part: Part<"recordings">
}

const fileName = (recordingId: string) => `${recordingId}.cast`

/** The arguments as far as they are kept. */
const clipped = (argv: ReadonlyArray<string>): ReadonlyArray<string> => {
  let room = maxArgvLength
  const kept: Array<string> = []
  for (const argument of argv) {
    if (room <= 0) return [...kept, "..."]
    kept.push(argument.length > room ? `${argument.slice(0, room)}...` : argument)
    room -= argument.length + 1
  }
  return kept
}

/** Makes the folder, or checks that nobody else can use it. Throws. */
const prepare = (directory: string): void => {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { mode, uid } = statSync(directory)
  if (uid !== process.getuid?.()) throw new RecordingStoreError({ message: "it belongs to another user" })
  if ((mode & 0o077) !== 0) {
    const shown = (mode & 0o777).toString(8).padStart(4, "0")
    throw new RecordingStoreError({ message: `others may use it (mode ${shown}): run chmod 700 ${directory}` })
  }
}

/** The first line of a file, if it is not too long. Throws. */
const firstLine = (path: string): string => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const buffer = Buffer.alloc(maxHeaderBytes)
    return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, 0)).split("\n", 1)[0] ?? ""
  } finally {
    closeSync(fd)
  }
}

const isText = (value: unknown): value is string => typeof value === "string"

/** What is known of a recording of an earlier run; undefined for a file that is none. */
const earlier = (directory: string, name: string): RecordingInfo | undefined => {
  const [, recordingId] = /^([0-9a-f]{32})\.cast$/.exec(name) ?? []
  if (recordingId === undefined) return undefined
  try {
    const path = join(directory, name)
    const { size, mtimeMs } = statSync(path)
    const header = Either.getOrUndefined(Asciicast.readHeader(firstLine(path)))
    const { session, processId, argv }: { readonly [name: string]: unknown } = isRecord(header?.origin)
      ? header.origin
      : {}
    const recordedMs = (header?.timestamp ?? Number.NaN) * 1000
    const startedAtMs = Math.floor(Math.abs(recordedMs) <= maxDateMs ? recordedMs : mtimeMs)
    return {
      recordingId,
      session: isText(session) ? session : "",
      processId: isText(processId) ? processId : "",
      argv: Array.isArray(argv) ? argv.filter(isText) : [],
      startedAtMs,
      durationMs: Math.max(0, Math.floor(mtimeMs - startedAtMs)),
      bytes: size,
      running: false,
      truncated: false,
      failure: null
    }
  } catch {
    // It was removed meanwhile, or cannot be read: then it is not listed.
    return undefined
  }
}

const make = (folder: string, limits: Limits) =>
  Effect.gen(function* () {
    const directory = resolve(folder)
    const found = yield* Effect.try({
      try: () => {
        prepare(directory)
        return readdirSync(directory).flatMap((name) => earlier(directory, name) ?? [])
      },
      catch: (error) => {
        const why = error instanceof RecordingStoreError ? error.message : OsError.describe(error)
        return new RecordingStoreError({ message: `cannot use the folder of recordings ${directory}: ${why}` })
      }
    })
    const clock = yield* Effect.clock
    const all = new Map<string, Recorded>()
    const active = new Map<ManagedProcess, Recorded>()
    /** Those in progress, and those whose last lines are being written. */
    const files = new Map<string, { readonly one: Recording; readonly recorded: Recorded }>()
    let total = 0
    let waiting = 0
    let reserved = 0

    for (const info of found.sort((a, b) => a.startedAtMs - b.startedAtMs)) {
      total += info.bytes
      all.set(info.recordingId, { info: () => info, owner: undefined, subject: undefined, stop: Effect.void })
    }

    // One timer for all recordings: none is set while nothing is printed.
    let dirty = new Set<Recording>()
    const flush = () => {
      const due = dirty
      dirty = new Set()
      for (const one of due) void one.write()
    }
    const onPending = (one: Recording) => {
      if (dirty.size === 0) setTimeout(flush, batchMs)
      dirty.add(one)
    }

    const pathOf = (recorded: Recorded) => join(directory, fileName(recorded.info().recordingId))
    const attempt = <A>(use: () => Promise<A>) =>
      Effect.tryPromise({ try: use, catch: (error) => new FileFailed({ message: OsError.describe(error) }) })

    const remove: Shape["remove"] = (recorded) => {
      const { recordingId } = recorded.info()
      const removed = Effect.zipRight(
        // Its file may never have been made.
        attempt(() => rm(pathOf(recorded), { force: true })),
        Effect.sync(() => {
          if (all.delete(recordingId)) total -= recorded.info().bytes
        })
      )
      return Effect.uninterruptible(Effect.zipRight(recorded.stop, removed))
    }

    /** Adds a recording in progress. */
    const add = (
      origin: Origin,
      of: Pick<Recorded, "owner" | "subject">,
      process: ManagedProcess | undefined,
      make: (path: string, around: Surroundings) => Recording
    ) => {
      const { recordingId } = origin
      const recorded: Recorded = {
        ...of,
        info: () => {
          const { bytes, durationMs, running, truncated, failure = null } = one
          return { ...origin, durationMs: Math.max(0, durationMs), bytes, running, truncated, failure }
        },
        stop: Effect.suspend(() => {
          one.stop()
          return Effect.promise(() => one.ended)
        })
      }
      const one = make(join(directory, fileName(recordingId)), {
        now: () => clock.unsafeCurrentTimeMillis(),
        room: () => limits.totalBytes - total,
        take: (bytes) => {
          total += bytes
        },
        give: (bytes) => {
          total -= bytes
        },
        wait: (characters) => {
          waiting += characters
          return waiting <= maxWaiting
        },
        onPending,
        onEnd: () => {
          if (process !== undefined) active.delete(process)
          files.delete(recordingId)
          // What is left does not hold the process.
          const info = recorded.info()
          all.set(recordingId, { ...of, info: () => info, stop: Effect.void })
        }
      })
      all.set(recordingId, recorded)
      files.set(recordingId, { one, recorded })
      if (process !== undefined) active.set(process, recorded)
      return { one, recorded }
    }

    const begin =
      (recordingId: string, { input = false, maxBytes = limits.maxBytes }: RecordOptions): Reservation["begin"] =>
      (session, process, term) => {
        const origin: Origin = {
          recordingId,
          session: session.handle,
          processId: process.processId,
          argv: clipped(process.description.argv),
          startedAtMs: clock.unsafeCurrentTimeMillis()
        }
        const options = { input, maxBytes: Math.min(maxBytes, limits.maxBytes), term }
        const { one, recorded } = add(
          origin,
          { owner: session.id, subject: session.subject },
          process,
          (path, around) => Recording.begin(origin, path, process, options, around)
        )
        return Effect.flatMap(
          Effect.promise(() => one.write()),
          () => {
            if (one.failure === undefined) return Effect.void
            const failed = new FileFailed({ message: one.failure })
            // Nobody knows its id.
            return Effect.zipRight(remove(recorded), failed)
          }
        )
      }

    yield* Effect.addFinalizer(() => {
      const stopped = Effect.forEach(Array.from(active.values()), ({ stop }) => stop, {
        concurrency: "unbounded",
        discard: true
      })
      return Effect.raceFirst(Effect.interruptible(stopped), Effect.interruptible(Effect.sleep(endMs)))
    })

    return {
      reserve: (options) => {
        const advice = "remove some with recording/remove"
        if (all.size + reserved >= limits.maxRecordings) {
          return Either.left(new LimitReached({ limit: "maxRecordings", value: limits.maxRecordings, advice }))
        }
        if (total >= limits.totalBytes) {
          return Either.left(new LimitReached({ limit: "recordingBytesTotal", value: limits.totalBytes, advice }))
        }
        reserved++
        const recordingId = randomBytes(16).toString("hex")
        const release = () => {
          reserved--
        }
        return Either.right({
          recordingId,
          begin: (session, process, term) => {
            release()
            return begin(recordingId, options)(session, process, term)
          },
          release
        })
      },
      list: () => Array.from(all.values()),
      find: (recordingId) => all.get(recordingId),
      of: (process) => active.get(process),
      read: (recorded, offset, maxBytes) =>
        attempt(async () => {
          const { running, bytes } = recorded.info()
          // It is made with the first batch.
          if (bytes === 0) return { chunk: Buffer.alloc(0), size: 0, running }
          // Somebody may have put a pipe in its place, for which no read would end.
          const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
          const file = await open(pathOf(recorded), flags)
          try {
            const stats = await file.stat()
            const size = stats.isFile() ? stats.size : 0
            const length = Math.max(0, Math.min(maxBytes, maxReadBytes, size - offset))
            const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset)
            return { chunk: buffer.subarray(0, bytesRead), size, running }
          } finally {
            await file.close()
          }
        }),
      remove,
      part: {
        name: "recordings",
        freeze: () => ({
          active: Array.from(files.values(), ({ one, recorded: { owner = "", subject = "" } }) => ({
            ...one.freeze(),
            owner,
            subject
          })),
          ended: Array.from(all.values()).flatMap(({ owner, subject = "", info }) => {
            const { recordingId, durationMs, truncated, failure } = info()
            if (owner === undefined || files.has(recordingId)) return []
            return [{ recordingId, owner, subject, durationMs, truncated, failure }]
          })
        }),
        adopt: (state, find) => {
          for (const { recordingId, owner, subject, ...of } of state.ended) {
            const found = all.get(recordingId)?.info()
            if (found === undefined) continue
            all.set(recordingId, { owner, subject, info: () => ({ ...found, ...of }), stop: Effect.void })
          }
          for (const frozen of state.active) {
            const { recordingId, session, processId, argv, startedAtMs, owner, subject } = frozen
            const process = find(session)?.supervisor.find(ProcessId.make(processId))
            // The file was found as that of an earlier run.
            total -= all.get(recordingId)?.info().bytes ?? 0
            const origin = { recordingId, session, processId, argv, startedAtMs }
            add(origin, { owner, subject }, process, (path, around) =>
              Recording.adopt(origin, path, frozen, process, around)
            )
          }
        },
        begin: () => {
          for (const { one } of files.values()) onPending(one)
        }
      }
    } satisfies Shape
  })

/**
 * The recordings of the server; undefined, the default, if it keeps none.
 *
 * @category tags
 */
export class RecordingStore extends Context.Reference<RecordingStore>()("exec-server/RecordingStore", {
  defaultValue: (): Shape | undefined => undefined
}) {}

/**
 * Why a server without a folder makes no recordings.
 *
 * @category errors
 */
export const unset = new NotAllowed({
  message: "this server keeps no recordings: set recordingsDir (--recordings-dir DIR) to the folder for them"
})

/**
 * Recordings in this folder. It is made if it is not there; nobody but this user may have permissions on it.
 *
 * @category layers
 */
export const layer = (folder: string, limits: Partial<Limits> = {}): Layer.Layer<never, RecordingStoreError> =>
  Layer.scoped(RecordingStore, make(folder, { ...defaults, ...limits }))
