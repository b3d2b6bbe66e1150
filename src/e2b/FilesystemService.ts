/**
 * The service `filesystem.Filesystem`: directories, and changes in them.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Count, Flag, optional, Text } from "../protocol/Schemas.js"
import { message } from "./Connect.js"
import { type Failure, fail, ofClient } from "./Failure.js"
import { sustain } from "./KeepAlive.js"
import { answering, type Call, type Methods, unary } from "./Methods.js"
import * as Place from "./Place.js"
import type { Watched } from "./Watchers.js"

/** The deepest listing: that of `fs/walk`. */
const maxDepth = 64

const OnPath = Schema.Struct({ path: Text })

const OnWatcher = Schema.Struct({ watcherId: Text })

const WatchRequest = Schema.Struct({
  path: Text,
  recursive: optional(Flag),
  includeEntry: optional(Flag),
  /** Changes there are found like all others. */
  allowNetworkMounts: optional(Flag)
})

/** The absolute path of a request by a user that is served. */
const resolve = ({ sandbox: { place }, request }: Call, path: string): Effect.Effect<string, Failure> =>
  Effect.zipRight(
    Place.checkUser(place, Place.userIn(request.headers.authorization)),
    Effect.suspend(() => Place.resolve(place, path))
  )

const makeDir = (path: string, { sandbox: { entries, environment } }: Call) =>
  environment.files.getMetadata(path).pipe(
    Effect.matchEffect({
      onSuccess: ({ isDirectory }) =>
        isDirectory
          ? fail("already_exists", `directory already exists: ${path}`)
          : fail("invalid_argument", `path already exists but it is not a directory: ${path}`),
      onFailure: () =>
        Effect.mapError(environment.files.createDirectory(path), (error) =>
          ofClient(`error creating directory ${path}`, error)
        )
    }),
    Effect.zipRight(entries.stat(path)),
    Effect.map((entry) => ({ entry }))
  )

const move = (source: string, destination: string, { sandbox: { entries, environment } }: Call) =>
  entries.stat(source).pipe(
    Effect.zipRight(
      Effect.mapError(environment.files.createDirectory(posix.dirname(destination)), (error) =>
        ofClient(`error creating the directory of ${destination}`, error)
      )
    ),
    Effect.zipRight(entries.move(source, destination)),
    Effect.zipRight(entries.stat(destination)),
    Effect.map((entry) => ({ entry }))
  )

/** What a watcher looks at: everything below, if it is recursive. */
const watchedOf = (path: string, { recursive, includeEntry }: typeof WatchRequest.Type): Watched => ({
  path,
  depth: recursive === true ? maxDepth : 1,
  includeEntry: includeEntry === true
})

const keepAlive = message({ keepalive: {} })

/** The methods of `filesystem.Filesystem`. */
export const methods: Methods = {
  "/filesystem.Filesystem/Stat": unary(OnPath, ({ path }, call) =>
    Effect.flatMap(resolve(call, path), (resolved) =>
      Effect.map(call.sandbox.entries.stat(resolved), (entry) => ({ entry }))
    )
  ),
  "/filesystem.Filesystem/MakeDir": unary(OnPath, ({ path }, call) =>
    Effect.flatMap(resolve(call, path), (resolved) => makeDir(resolved, call))
  ),
  "/filesystem.Filesystem/Move": unary(Schema.Struct({ source: Text, destination: Text }), (given, call) =>
    Effect.gen(function* () {
      const source = yield* resolve(call, given.source)
      return yield* move(source, yield* resolve(call, given.destination), call)
    })
  ),
  "/filesystem.Filesystem/ListDir": unary(Schema.Struct({ path: Text, depth: optional(Count) }), (given, call) =>
    Effect.gen(function* () {
      const { path, depth = 1 } = given
      if (depth > maxDepth) return yield* fail("invalid_argument", `the depth is ${depth}, and at most ${maxDepth}`)
      const entries = yield* call.sandbox.entries.list(yield* resolve(call, path), Math.max(1, depth))
      return { entries }
    })
  ),
  "/filesystem.Filesystem/Remove": unary(OnPath, ({ path }, call) =>
    Effect.flatMap(resolve(call, path), (resolved) =>
      Effect.mapBoth(call.sandbox.environment.files.remove(resolved), {
        onSuccess: () => ({}),
        onFailure: (error) => ofClient(`error removing ${resolved}`, error)
      })
    )
  ),
  "/filesystem.Filesystem/WatchDir": answering(WatchRequest, (given, call, answers) =>
    Effect.scoped(
      Effect.gen(function* () {
        const path = yield* resolve(call, given.path)
        const watch = yield* call.sandbox.watchers.open(watchedOf(path, given))
        answers.send(message({ start: {} }))
        const told = Effect.forever(
          Effect.zipRight(
            answers.drained,
            Effect.map(watch, (events) => {
              for (const filesystem of events) answers.send(message({ filesystem }))
            })
          )
        )
        yield* Effect.raceFirst(sustain(answers, call.request, call.timeoutMs, keepAlive), told)
      })
    )
  ),
  "/filesystem.Filesystem/CreateWatcher": unary(WatchRequest, (given, call) =>
    Effect.flatMap(resolve(call, given.path), (path) =>
      Effect.map(call.sandbox.watchers.create(watchedOf(path, given)), (watcherId) => ({ watcherId }))
    )
  ),
  "/filesystem.Filesystem/GetWatcherEvents": unary(OnWatcher, ({ watcherId }, { sandbox }) =>
    Effect.map(sandbox.watchers.take(watcherId), (events) => ({ events }))
  ),
  "/filesystem.Filesystem/RemoveWatcher": unary(OnWatcher, ({ watcherId }, { sandbox }) =>
    Effect.as(sandbox.watchers.remove(watcherId), {})
  )
}
