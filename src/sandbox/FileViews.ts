/**
 * Sandboxed views of the file system: a session has a worker process for each confinement its file requests use.
 *
 * No path is checked: the worker's root contains only the files that the sandbox allows.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync } from "node:fs"
import { Socket } from "node:net"
import { join } from "node:path"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import type { Files } from "../filesystem/FileSystem.js"
import type { FileError } from "../filesystem/SystemError.js"
import * as Package from "../internal/Package.js"
import { type Failure, FileFailed, FileNotFound, FileRefused, LimitReached, NotAllowed } from "../protocol/Failure.js"
import type { Confinement } from "../spawn/Confinement.js"
import * as Posix from "../spawn/Posix.js"
import { Bubblewrap } from "./Bubblewrap.js"
import * as Frames from "./Frames.js"
import { viewPath } from "./Mounting.js"
import * as RemoteFiles from "./RemoteFiles.js"

/** The most workers of one session; each is a process. */
const maxViews = 8

/** How long an idle worker is kept for further requests, in milliseconds. Starting one takes far less. */
const idleMs = 10_000

/** The same for one that keeps places from being created, which stay occupied as long as it runs. */
const idleHoldingMs = 1000

const idleMsOf = ({ placeholders }: Confinement): number => (placeholders.length === 0 ? idleMs : idleHoldingMs)

/** The deadline for the start of a worker, in milliseconds. */
const startMs = 20_000

const program = join(Package.root, "dist/fileWorker.js")

/**
 * The views of one session.
 *
 * @category models
 */
export interface Views {
  /** Opens the file system of a confinement, until the scope closes. Fails if `maxViews` confinements are in use. */
  readonly open: (confinement: Confinement) => Effect.Effect<Files, Failure, Scope.Scope>
}

/**
 * Makes the views of sessions.
 *
 * @category models
 */
export interface Shape {
  /** Makes the views of one session; the scope ends their workers. */
  readonly make: Effect.Effect<Views, never, Scope.Scope>
}

const failureOf = ([tag, message]: readonly [FileError["_tag"], string]): FileError => {
  switch (tag) {
    case "FileNotFound":
      return new FileNotFound({ message })
    case "FileRefused":
      return new FileRefused({ message })
    case "FileFailed":
      return new FileFailed({ message })
  }
}

interface Frame {
  readonly value: unknown
  readonly payload: Buffer
}

const gone = () => new FileFailed({ message: "the worker process for sandboxed file requests has ended" })

/** Sends calls to a worker's `input` and reads the responses from its `output`. */
const connect = (input: Socket, output: Socket, onReady: () => void) => {
  const waiting = new Map<number, (answer: Effect.Effect<Frame, FileError>) => void>()
  let nextId = 1
  let over = false

  const end = () => {
    over = true
    input.destroy()
    output.destroy()
    for (const answer of waiting.values()) answer(gone())
    waiting.clear()
  }
  const reader = new Frames.Reader((header, payload) => {
    if ("ready" in header) return onReady()
    const answer = waiting.get(header.id)
    waiting.delete(header.id)
    if ("failure" in header) answer?.(failureOf(header.failure))
    else if ("value" in header) answer?.(Effect.succeed({ value: header.value, payload }))
  })
  output.on("data", (piece: Buffer) => {
    try {
      reader.push(piece)
    } catch {
      end()
    }
  })
  for (const socket of [input, output]) {
    socket.on("error", end)
    socket.once("close", end)
  }

  const ask = (call: Frames.Call, payload = Buffer.alloc(0)) =>
    Effect.async<Frame, FileError>((resume) => {
      if (over) return resume(gone())
      const id = nextId++
      waiting.set(id, resume)
      for (const piece of Frames.encode({ id, call }, payload)) input.write(piece)
      return Effect.sync(() => waiting.delete(id))
    })
  // The one cast: a response has the result type of its call.
  return { ask: ask as unknown as RemoteFiles.Ask, end }
}

/** Starts a worker; the scope kills it. */
const start = (
  bubblewrap: Bubblewrap["Type"],
  confinement: Confinement,
  onEnd: () => void
): Effect.Effect<Files, Failure, Scope.Scope> =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<void, Failure>()
    const [requests, answers] = yield* Effect.acquireRelease(
      Effect.try({
        try: () => [Posix.pipe(), Posix.pipe()] as const,
        catch: (error) => new FileFailed({ message: String(error) })
      }),
      ([[workerInput], [, workerOutput]]) =>
        Effect.sync(() => {
          closeSync(workerInput)
          closeSync(workerOutput)
        })
    )
    const input = new Socket({ fd: requests[1], readable: false, writable: true })
    const output = new Socket({ fd: answers[0], readable: true, writable: false })
    const { ask, end } = connect(input, output, () => Deferred.unsafeDone(ready, Effect.void))
    yield* Effect.addFinalizer(() => Effect.sync(end))
    const worker = yield* Effect.acquireRelease(
      bubblewrap
        .startWorker([process.execPath, program, viewPath], confinement, [requests[0], answers[1], -1])
        .pipe(Effect.mapError(({ message }) => new NotAllowed({ message }))),
      ({ signal }) => Effect.sync(() => signal("SIGKILL", "tree"))
    )
    worker.onExit((status) => {
      end()
      onEnd()
      const message = `bubblewrap could not set up the sandbox (${status._tag === "Exited" ? `status ${status.code}` : status._tag})`
      Deferred.unsafeDone(ready, new FileFailed({ message }))
    })
    yield* Effect.timeoutFail(Deferred.await(ready), {
      duration: startMs,
      onTimeout: () => new FileFailed({ message: `the sandbox was not ready within ${startMs} ms` })
    })
    return RemoteFiles.make(ask)
  })

const makeViews = (bubblewrap: Bubblewrap["Type"]): Effect.Effect<Views, never, Scope.Scope> =>
  Effect.gen(function* () {
    const users = new Map<string, number>()
    const views: RcMap.RcMap<string, Files, Failure | Cause.ExceededCapacityException> = yield* RcMap.make({
      // The key is the confinement as JSON, so equal ones share a worker.
      lookup: (key: string) =>
        start(bubblewrap, JSON.parse(key) as Confinement, () => Effect.runFork(RcMap.invalidate(views, key))),
      capacity: maxViews,
      idleTimeToLive: (key) => idleMsOf(JSON.parse(key) as Confinement)
    })
    const count = (key: string, change: number) => {
      const now = (users.get(key) ?? 0) + change
      if (now === 0) users.delete(key)
      else users.set(key, now)
    }
    /** Ends the idle workers. */
    const makeRoom = Effect.flatMap(RcMap.keys(views), (keys) =>
      Effect.forEach(
        keys.filter((key) => !users.has(key)),
        (key) => RcMap.invalidate(views, key)
      )
    )
    const open = (confinement: Confinement): Effect.Effect<Files, Failure, Scope.Scope> => {
      const key = JSON.stringify(confinement)
      const get = Effect.tapError(RcMap.get(views, key), () => RcMap.invalidate(views, key))
      return Effect.acquireRelease(
        Effect.sync(() => count(key, 1)),
        () => Effect.sync(() => count(key, -1))
      ).pipe(
        Effect.zipRight(get),
        Effect.catchIf(Cause.isExceededCapacityException, () => Effect.zipRight(makeRoom, get)),
        Effect.catchIf(
          Cause.isExceededCapacityException,
          () =>
            new LimitReached({ limit: "sandboxes with open files", value: maxViews, advice: "close some files first" })
        )
      )
    }
    return { open }
  })

/** Creates the views of a session on first use: most sessions have no sandbox. */
const make = (bubblewrap: Bubblewrap["Type"]): Effect.Effect<Views, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    let made: Views | undefined
    const views = Effect.suspend(() => {
      if (made !== undefined) return Effect.succeed(made)
      return Effect.tap(Scope.extend(makeViews(bubblewrap), scope), (views) => {
        made = views
      })
    })
    return { open: (confinement) => Effect.flatMap(views, ({ open }) => open(confinement)) }
  })

/**
 * The sandboxed file views of a server. The default refuses to open any.
 *
 * @category tags
 */
export class FileViews extends Context.Reference<FileViews>()("exec-server/FileViews", {
  defaultValue: (): Shape => ({
    make: Effect.succeed({ open: () => new NotAllowed({ message: "this server has no sandboxed view of files" }) })
  })
}) {
  /** Opens views in workers that bubblewrap starts. */
  static readonly layer: Layer.Layer<never, never, Bubblewrap> = Layer.effect(
    FileViews,
    Effect.map(Bubblewrap, (bubblewrap) => ({ make: make(bubblewrap) }))
  )
}
