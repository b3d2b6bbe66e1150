/**
 * Views of the file system in worker processes: a session has one for each confinement its file requests use, and one
 * without a confinement for paths whose file system may hang.
 *
 * No path is checked: the root of a confined worker contains only the files that the sandbox allows. A worker with a
 * system call that hangs takes no further requests and is killed; the next request starts another one.
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
import { maxReaders } from "../filesystem/AccessQueue.js"
import type { Files } from "../filesystem/FileSystem.js"
import type { FileError } from "../filesystem/SystemError.js"
import * as Package from "../internal/Package.js"
import { provideInOrder } from "../internal/Wiring.js"
import { type Failure, FileFailed, FileNotFound, FileRefused, LimitReached, NotAllowed } from "../protocol/Failure.js"
import { attempt, type SpawnError } from "../spawn/Child.js"
import type { Confinement } from "../spawn/Confinement.js"
import { Guard } from "../spawn/Guard.js"
import { type Running, runOwn } from "../spawn/Launcher.js"
import * as Posix from "../spawn/Posix.js"
import { ProcessTrees, type Tree, type Shape as TreesShape } from "../spawn/ProcessTrees.js"
import { Bubblewrap } from "./Bubblewrap.js"
import * as Frames from "./Frames.js"
import { viewPath } from "./Mounting.js"
import * as RemoteFiles from "./RemoteFiles.js"

/** The most workers of one session; each is a process. */
const maxViews = 8

/** How long an idle worker is kept for further requests, in milliseconds. Starting one takes far less. */
const idleMs = 10_000

/** The same for a worker that holds placeholders: they exist as long as it runs. */
const idleHoldingMs = 1000

const idleMsOf = (confinement: Confinement | null): number =>
  confinement === null || confinement.placeholders.length === 0 ? idleMs : idleHoldingMs

/**
 * The maximum number of hung workers of one session. A hung worker is killed, but ends only once the file system that
 * its threads wait for answers.
 */
const maxHung = 4

/** The same for a whole server. Beyond it, no worker without a confinement is started. */
const maxHungOfServer = 16

/** The deadline for the start of a worker, in milliseconds. */
const startMs = 20_000

const program = join(Package.root, "dist/fileWorker.js")

/**
 * The views of one session.
 *
 * @category models
 */
export interface Views {
  /** Opens the file system of a confinement until the scope closes. Fails if `maxViews` of these are in use. */
  readonly open: (confinement: Confinement) => Effect.Effect<Files, Failure, Scope.Scope>
  /**
   * Opens all files, in a worker, until the scope closes: for paths whose file system may hang. Absent where there are
   * no workers.
   */
  readonly unconfined?: Effect.Effect<Files, Failure, Scope.Scope>
}

/**
 * Makes the views of sessions.
 *
 * @category models
 */
export interface Shape {
  /** Makes the views of one session; the scope ends their workers. */
  readonly make: (scope: Scope.Scope) => Views
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

const gone = () => new FileFailed({ message: "the worker process for these file requests has ended" })

/** Sends calls to a worker's `input` and reads the responses from its `output`. */
const connect = (input: Socket, output: Socket, onReady: () => void, onHung: () => void) => {
  const waiting = new Map<number, (answer: Effect.Effect<Frame, FileError>) => void>()
  let nextId = 1
  let over = false
  let hasHung = false

  const end = () => {
    over = true
    input.destroy()
    output.destroy()
    for (const answer of waiting.values()) answer(gone())
    waiting.clear()
  }
  const reader = new Frames.Reader((header, payload) => {
    if ("ready" in header) return onReady()
    if ("hung" in header) {
      hasHung = true
      return onHung()
    }
    if ("cancel" in header) return
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
      // A hung worker is killed soon, which closes its files. Closing them one by one could time out each time.
      if (over || (hasHung && call.call === "close")) return resume(gone())
      const id = nextId++
      waiting.set(id, resume)
      for (const piece of Frames.encode({ id, call }, payload)) input.write(piece)
      return Effect.sync(() => {
        waiting.delete(id)
        for (const piece of Frames.encode({ cancel: id }, Buffer.alloc(0))) input.write(piece)
      })
    })
  // The cast is safe: a response has the result type of its call.
  return { ask: ask as unknown as RemoteFiles.Ask, end }
}

type Worker = Running & Pick<Tree, "signal">

/** The threads of a worker without a confinement: enough for the calls of the maximum number of concurrent requests. */
const threads = 4 * maxReaders

interface Needs {
  readonly bubblewrap: Bubblewrap["Type"]
  readonly trees: TreesShape
}

/** Starts a worker, which is a child like any other. */
const startUnconfined = (trees: TreesShape, stdio: Posix.Descriptors): Effect.Effect<Worker, SpawnError> =>
  attempt(() => runOwn(trees, process.execPath, [program], { UV_THREADPOOL_SIZE: String(threads) }, stdio))

interface Events {
  /** Whether it takes no further requests. */
  readonly onEnd: () => void
  /** Whether it waits for a file system that does not answer. */
  readonly onHung: () => void
  /** Called when its process has ended. */
  readonly onExit: () => void
}

/** Starts a worker; the scope kills it. */
const start = (
  { bubblewrap, trees }: Needs,
  confinement: Confinement | undefined,
  { onEnd, onHung, onExit }: Events
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
    const { ask, end } = connect(input, output, () => Deferred.unsafeDone(ready, Effect.void), onHung)
    yield* Effect.addFinalizer(() => Effect.sync(end))
    const stdio = [requests[0], answers[1], -1] as const
    const starting: Effect.Effect<Worker, Failure> =
      confinement === undefined
        ? Effect.mapError(startUnconfined(trees, stdio), ({ message }) => new FileFailed({ message }))
        : bubblewrap
            .startWorker([process.execPath, program, viewPath], confinement, stdio)
            .pipe(Effect.mapError(({ message }) => new NotAllowed({ message })))
    const worker = yield* Effect.acquireRelease(starting, ({ signal }) => Effect.sync(() => signal("SIGKILL", "tree")))
    worker.onExit((status) => {
      end()
      onEnd()
      onExit()
      const message = `the worker process for file requests did not start (${status._tag === "Exited" ? `status ${status.code}` : status._tag})`
      Deferred.unsafeDone(ready, new FileFailed({ message }))
    })
    yield* Effect.timeoutFail(Deferred.await(ready), {
      duration: startMs,
      onTimeout: () => {
        onHung()
        return new FileFailed({ message: `the worker process for file requests was not ready within ${startMs} ms` })
      }
    })
    return RemoteFiles.make(ask)
  })

/** Counts workers that hang. */
interface Hung {
  count: number
}

const makeViews = (needs: Needs, all: Hung): Effect.Effect<Required<Views>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const users = new Map<string, number>()
    const own: Hung = { count: 0 }
    const refusal = (confinement: Confinement | undefined): LimitReached | undefined => {
      const advice = "unmount the file systems that do not answer (umount -l, or abort the FUSE connection) first"
      if (own.count >= maxHung) {
        return new LimitReached({ limit: "file workers of a session that hang", value: maxHung, advice })
      }
      if (confinement === undefined && all.count >= maxHungOfServer) {
        return new LimitReached({ limit: "file workers of a server that hang", value: maxHungOfServer, advice })
      }
      return undefined
    }
    const startNext = (key: string): Effect.Effect<Files, Failure, Scope.Scope> =>
      Effect.suspend(() => {
        const confinement = (JSON.parse(key) as Confinement | null) ?? undefined
        const refused = refusal(confinement)
        if (refused !== undefined) return refused
        let isHung = false
        const hangs = (now: boolean) => {
          if (now === isHung) return
          isHung = now
          const change = now ? 1 : -1
          own.count += change
          all.count += change
        }
        // Once: the next one has the same key.
        let isCurrent = true
        const onEnd = () => {
          if (isCurrent) Effect.runFork(RcMap.invalidate(views, key))
          isCurrent = false
        }
        const onHung = () => {
          hangs(true)
          onEnd()
        }
        const replaced = Effect.addFinalizer(() =>
          Effect.sync(() => {
            isCurrent = false
          })
        )
        return Effect.zipRight(replaced, start(needs, confinement, { onEnd, onHung, onExit: () => hangs(false) }))
      })
    const views: RcMap.RcMap<string, Files, Failure | Cause.ExceededCapacityException> = yield* RcMap.make({
      // The key is the confinement as JSON, so equal ones share a worker.
      lookup: startNext,
      capacity: maxViews,
      idleTimeToLive: (key) => idleMsOf(JSON.parse(key) as Confinement | null)
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
    const open = (confinement: Confinement | undefined): Effect.Effect<Files, Failure, Scope.Scope> => {
      const key = JSON.stringify(confinement ?? null)
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
    return { open, unconfined: open(undefined) }
  })

/** Creates the views of a session on first use: most sessions need none. */
const make = (needs: Needs, all: Hung, scope: Scope.Scope): Views => {
  let made: Required<Views> | undefined
  const views = Effect.suspend(() => {
    if (made !== undefined) return Effect.succeed(made)
    return Effect.tap(Scope.extend(makeViews(needs, all), scope), (views) => {
      made = views
    })
  })
  return {
    open: (confinement) => Effect.flatMap(views, ({ open }) => open(confinement)),
    unconfined: Effect.flatMap(views, ({ unconfined }) => unconfined)
  }
}

/**
 * The sandboxed file views of a server. The default refuses to open any.
 *
 * @category tags
 */
export class FileViews extends Context.Reference<FileViews>()("exec-server/FileViews", {
  defaultValue: (): Shape => ({
    make: () => ({ open: () => new NotAllowed({ message: "this server has no sandboxed view of files" }) })
  })
}) {
  /** Opens views in workers, those of a confinement started by bubblewrap. */
  static readonly layer: Layer.Layer<never, never, Bubblewrap> = Layer.effect(
    FileViews,
    Effect.gen(function* () {
      const needs = { bubblewrap: yield* Bubblewrap, trees: yield* ProcessTrees }
      const all = { count: 0 }
      return { make: (scope) => make(needs, all, scope) } satisfies Shape
    })
  ).pipe(provideInOrder(Guard.layer, ProcessTrees.layer))
}
