/**
 * Ends the server's processes when the server is killed without a chance to do so. A separate process,
 * `native/guard.c`, knows every leader and acts when its socket to the server closes.
 *
 * A child registers with the guard before it executes its program (`Posix.spawn`), so the server's death leaves none
 * behind. This module sends the guard everything else.
 *
 * @since 0.1.0
 */
import { closeSync } from "node:fs"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as OsError from "../protocol/OsError.js"
import * as Signals from "../protocol/Signals.js"
import type { Identity } from "./Child.js"
import * as Posix from "./Posix.js"

/** How long after a failure the next guard is started, in milliseconds. Doubles each time, up to the maximum. */
const firstRetryMs = 200
const maxRetryMs = 30_000

/** After running this long, in milliseconds, a guard counts as working: its failure resets the delay. */
const steadyMs = 30_000

/** How long after a logged failure further ones are only counted, in milliseconds. */
const quietMs = 60_000

/** A guard with this many unread messages is considered stuck, and replaced. */
const maxUnread = 100_000

/** Ends the trees of leaders when the server dies. */
export interface Shape {
  /**
   * The socket on which children register during their start, for `Posix.spawn`. Starts the guard if necessary. -1
   * while no guard runs; the next guard is told of all leaders.
   */
  readonly socket: () => number
  /** Adds a leader: its tree ends with the server. */
  readonly register: (leader: Identity) => void
  /** Removes a leader: its tree is empty. */
  readonly unregister: (leader: Identity) => void
  /** Makes the guard close its copy of this leader's terminal; the server has closed it. */
  readonly closeTerminal: (leader: Identity) => void
  /** Adds an empty folder that the guard removes when the server dies. */
  readonly addFolder: (path: string) => void
  /** Makes the guard keep this folder. */
  readonly removeFolder: (path: string) => void
  /** Sets the cgroup whose processes the guard kills when the server dies, before it removes it. */
  readonly setCgroup: (path: string) => void
}

/** A running guard. */
export interface Running {
  /** The socket on which children register. */
  readonly socket: number
  /** Sends a message, if the guard still runs. */
  readonly write: (line: string) => void
  /** Closes the socket. No message may follow. */
  readonly end: () => void
}

/** Starts a guard, or throws. Calls `onFailure` in a later turn when the guard ends. */
export type Start = (onFailure: (reason: string) => void) => Running

const startProgram: Start = (onFailure) => {
  const [socket, theirs] = Posix.guardSocket()
  let isOpen = true
  let stopWaiting = () => {}
  // Messages that did not fit into the socket's buffer.
  let unread: Array<string> = []

  const close = () => {
    if (!isOpen) return
    isOpen = false
    stopWaiting()
    closeSync(socket)
  }
  const flush = () => {
    if (!isOpen) return
    const sent = unread.findIndex((line) => !Posix.tell(socket, line))
    unread = sent === -1 ? [] : unread.slice(sent)
    if (unread.length > 0) stopWaiting = Posix.onWritable(socket, flush)
  }

  let pid: number
  try {
    pid = Posix.spawn(Posix.guardProgram(), ["exec-server-guard"], [], "/", [theirs, -1, -1], (code, signal) => {
      close()
      onFailure(`it ended with ${signal === 0 ? `status ${code}` : Signals.nameOf(signal)}`)
    })
  } catch (error) {
    close()
    throw new Error(OsError.describe(error))
  } finally {
    closeSync(theirs)
  }

  return {
    socket,
    write: (line) => {
      if (!isOpen) return
      if (unread.length === 0 && Posix.tell(socket, line)) return
      if (unread.push(line) === 1) stopWaiting = Posix.onWritable(socket, flush)
      if (unread.length === maxUnread) process.kill(pid, "SIGKILL")
    },
    end: close
  }
}

const failedText = "the guard that ends processes if this server is killed has failed"

/** Logs the first failure at once and further ones as a count, at most once a minute. */
const makeReport = (fork: (effect: Effect.Effect<void>) => void) => {
  let isQuiet = false
  let count = 0
  let last = ""
  const log = (message: string) => {
    isQuiet = true
    count = 0
    fork(Effect.zipRight(Effect.logError(message), Effect.delay(Effect.sync(speak), quietMs)))
  }
  const speak = () => {
    isQuiet = false
    if (count > 0) log(`${failedText} ${count === 1 ? "once more" : `${count} more times`} within a minute: ${last}`)
  }
  return (reason: string) => {
    if (!isQuiet) return log(`${failedText}: ${reason}`)
    count++
    last = reason
  }
}

const make = (start: Start): Effect.Effect<Shape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const fork = yield* FiberSet.makeRuntime<never>()
    const report = makeReport(fork)
    const leaders = new Map<number, Identity>()
    const folders = new Set<string>()
    let cgroup: string | undefined
    let running: Running | undefined
    let isWaiting = false
    let retryMs = firstRetryMs
    let closed = false

    const tell = (line: string) => running?.write(line)

    const failed = (reason: string, ranMs: number) => {
      running = undefined
      report(reason)
      if (ranMs >= steadyMs) retryMs = firstRetryMs
      isWaiting = true
      fork(Effect.delay(Effect.sync(restart), retryMs))
      retryMs = Math.min(2 * retryMs, maxRetryMs)
    }

    const restart = () => {
      isWaiting = false
      const startedAt = clock.unsafeCurrentTimeMillis()
      try {
        const started = start((reason) => {
          if (!closed && running === started) failed(reason, clock.unsafeCurrentTimeMillis() - startedAt)
        })
        running = started
      } catch (error) {
        return failed(String(error), 0)
      }
      for (const { pid, startTime } of leaders.values()) tell(`+ ${pid} ${startTime}`)
      for (const folder of folders) tell(`f ${folder}`)
      if (cgroup !== undefined) tell(`c ${cgroup}`)
    }

    /** Starts a guard, which is told everything; or sends a running one this line. */
    const tellOrStart = (line: string) => {
      if (running === undefined && !isWaiting) restart()
      else tell(line)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        // Whatever is still registered has survived the shutdown. The guard ends it.
        running?.end()
      })
    )

    return {
      socket: () => {
        if (running === undefined && !isWaiting) restart()
        return running?.socket ?? -1
      },
      register: (leader) => {
        leaders.set(leader.pid, leader)
        tellOrStart(`+ ${leader.pid} ${leader.startTime}`)
      },
      unregister: (leader) => {
        // The pid may have been reused.
        if (leaders.get(leader.pid) !== leader) return
        leaders.delete(leader.pid)
        tell(`- ${leader.pid} ${leader.startTime}`)
      },
      closeTerminal: (leader) => {
        if (leaders.get(leader.pid) === leader) tell(`= ${leader.pid}`)
      },
      addFolder: (path) => {
        folders.add(path)
        tellOrStart(`f ${path}`)
      },
      removeFolder: (path) => {
        folders.delete(path)
        tell(`g ${path}`)
      },
      setCgroup: (path) => {
        cgroup = path
        tellOrStart(`c ${path}`)
      }
    }
  })

/** Watches over the leaders of a server. */
export class Guard extends Context.Tag("exec-server/Guard")<Guard, Shape>() {
  /** Starts the guard with the first leader. A failure is logged, and the guard restarted. */
  static readonly layerOf = (start: Start): Layer.Layer<Guard> => Layer.scoped(Guard, make(start))

  /** The guard as a separate process. */
  static readonly layer: Layer.Layer<Guard> = Guard.layerOf(startProgram)

  /** No guard: for systems without /proc, and for tests. */
  static readonly layerNone: Layer.Layer<Guard> = Layer.succeed(Guard, {
    socket: () => -1,
    register: () => {},
    unregister: () => {},
    closeTerminal: () => {},
    addFolder: () => {},
    removeFolder: () => {},
    setCgroup: () => {}
  })
}
