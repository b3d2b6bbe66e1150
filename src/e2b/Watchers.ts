/**
 * Changes in directories, found by comparing what they have with what they had. The protocol has no request that tells
 * them, and servers of codex have none either.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import { posix } from "node:path"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Entries, Entry, EntryInfo } from "./Entries.js"
import { type Failure, fail } from "./Failure.js"

/** The time between two looks, in milliseconds; longer where a look takes longer than a tenth of it. */
const lookMs = 500
const looksShare = 9

/** The most watchers of a sandbox at a time, and events that are kept for one that is not asked. */
const maxWatchers = 64
const maxEvents = 10_000

/** What is watched. */
export interface Watched {
  readonly path: string
  readonly depth: number
  readonly includeEntry: boolean
}

/** A change. */
export interface FilesystemEvent {
  /** The path below the directory. */
  readonly name: string
  readonly type: `EVENT_TYPE_${"CREATE" | "WRITE" | "REMOVE" | "RENAME" | "CHMOD"}`
  readonly entry?: EntryInfo
}

/** The changes since the last time; waits for some. */
type Watch = Effect.Effect<ReadonlyArray<FilesystemEvent>, Failure>

/** The watchers of a sandbox. */
export interface Watchers {
  /** Begins to watch; until the scope closes. */
  readonly open: (watched: Watched) => Effect.Effect<Watch, Failure, Scope.Scope>
  /** Makes a watcher that keeps its events until they are asked for. */
  readonly create: (watched: Watched) => Effect.Effect<string, Failure>
  readonly take: (id: string) => Effect.Effect<ReadonlyArray<FilesystemEvent>, Failure>
  readonly remove: (id: string) => Effect.Effect<void, Failure>
}

/** What was found, by path. */
export type Snapshot = ReadonlyMap<string, Entry>

const isDirectory = ({ info }: Entry) => info.type === "FILE_TYPE_DIRECTORY"

/** The changes between two looks. What has another name now is told as renamed, and then as created. */
export const changesOf = (
  before: Snapshot,
  after: Snapshot,
  { path, includeEntry }: Pick<Watched, "path" | "includeEntry">
): ReadonlyArray<FilesystemEvent> => {
  const events: Array<FilesystemEvent> = []
  const tell = ({ info }: Entry, type: FilesystemEvent["type"], isThere: boolean) =>
    events.push({ name: posix.relative(path, info.path), type, ...(includeEntry && isThere ? { entry: info } : {}) })
  const inodes = new Map(Array.from(after.values(), (entry) => [entry.inode, entry.info.path]))
  const old = new Set(Array.from(before.values(), ({ inode }) => inode))
  for (const [name, entry] of before) {
    if (after.has(name)) continue
    const now = inodes.get(entry.inode)
    const isRenamed = now !== undefined && !before.has(now)
    tell(entry, isRenamed ? "EVENT_TYPE_RENAME" : "EVENT_TYPE_REMOVE", false)
  }
  for (const [name, entry] of after) {
    const was = before.get(name)
    if (was === undefined || was.inode !== entry.inode) tell(entry, "EVENT_TYPE_CREATE", true)
    const isWritten =
      was === undefined || was.inode !== entry.inode
        ? !isDirectory(entry) && entry.info.size !== "0" && !old.has(entry.inode)
        : !isDirectory(entry) &&
          (was.info.modifiedTime !== entry.info.modifiedTime || was.info.size !== entry.info.size)
    if (isWritten) tell(entry, "EVENT_TYPE_WRITE", true)
    else if (was?.inode === entry.inode && was.info.permissions !== entry.info.permissions) {
      tell(entry, "EVENT_TYPE_CHMOD", true)
    }
  }
  return events
}

/** Makes the watchers of a sandbox; the scope ends them. */
export const make = (entries: Entries): Effect.Effect<Watchers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const parent = yield* Effect.scope
    const kept = new Map<
      string,
      { readonly scope: Scope.CloseableScope; events: ReadonlyArray<FilesystemEvent>; failure: Failure | undefined }
    >()
    let open = 0

    const look = ({ path, depth }: Watched): Effect.Effect<Snapshot, Failure> =>
      Effect.map(entries.look(path, depth), (found) => new Map(found.map((entry) => [entry.info.path, entry])))

    const begin = (watched: Watched): Effect.Effect<Watch, Failure, Scope.Scope> =>
      Effect.gen(function* () {
        if (open >= maxWatchers) {
          return yield* fail("resource_exhausted", `there are ${maxWatchers} watchers; remove one of them first`)
        }
        open++
        yield* Effect.addFinalizer(() => Effect.sync(() => open--))
        let before = yield* look(watched)
        let pauseMs = lookMs
        const next: Watch = Effect.suspend(() => Effect.delay(Effect.timed(look(watched)), pauseMs)).pipe(
          Effect.flatMap(([took, after]) => {
            pauseMs = Math.max(lookMs, looksShare * Duration.toMillis(took))
            const events = changesOf(before, after, watched)
            before = after
            return events.length === 0 ? next : Effect.succeed(events)
          })
        )
        return next
      })

    const find = (id: string) => {
      const found = kept.get(id)
      return found === undefined
        ? fail("not_found", `watcher with id ${id.slice(0, 100)} not found`)
        : Effect.succeed(found)
    }

    return {
      open: begin,
      create: (watched) =>
        Effect.gen(function* () {
          const scope = yield* Scope.fork(parent, ExecutionStrategy.sequential)
          const watch = yield* Scope.extend(begin(watched), scope).pipe(
            Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
          )
          const watcher = {
            scope,
            events: [] as ReadonlyArray<FilesystemEvent>,
            failure: undefined as Failure | undefined
          }
          const id = `w${randomBytes(10).toString("hex")}`
          kept.set(id, watcher)
          const collected = Effect.flatMap(watch, (events) => {
            watcher.events = [...watcher.events, ...events]
            return watcher.events.length > maxEvents
              ? fail("data_loss", `more than ${maxEvents} changes were not asked for; make another watcher`)
              : Effect.void
          })
          const onFailure = (failure: Failure) =>
            Effect.sync(() => {
              watcher.events = []
              watcher.failure = failure
            })
          yield* Effect.forkIn(Effect.catchAll(Effect.forever(collected), onFailure), scope)
          return id
        }),
      take: (id) =>
        Effect.flatMap(find(id), (watcher) => {
          if (watcher.failure !== undefined) return watcher.failure
          const { events } = watcher
          watcher.events = []
          return Effect.succeed(events)
        }),
      remove: (id) =>
        Effect.flatMap(find(id), ({ scope }) => {
          kept.delete(id)
          return Scope.close(scope, Exit.void)
        })
    }
  })
