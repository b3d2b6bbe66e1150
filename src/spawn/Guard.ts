/**
 * Ends what the server started when the server is killed and can run no handler: `native/guard.c`, a process outside of
 * it that knows every leader, and acts when its socket breaks.
 *
 * A process registers itself with the guard before it becomes the program that was asked for (`Posix.spawn`): there is
 * no moment at which the server's death leaves one behind. What else the guard has to know it is told from here.
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
import * as Posix from "./Posix.js"
import type { Identity } from "./ProcessTree.js"

/** How long after a failure another guard is started, in milliseconds: twice as long each time, up to a maximum. */
const firstRetryMs = 200
const maxRetryMs = 30_000

/** A guard that has run for as long, in milliseconds, was none that cannot run: the waits begin anew. */
const steadyMs = 30_000

/** How long after a failure was logged others are only counted, in milliseconds. */
const quietMs = 60_000

/** A guard that leaves so many messages unread has stopped, and is replaced. */
const maxUnread = 100_000

/** Ends the trees of leaders when the server dies. */
export interface Shape {
  /**
   * The socket on which processes register themselves while they are started, for `Posix.spawn`. Starts the guard; -1
   * while none can be started, whereupon a later one is told of all that were registered meanwhile.
   */
  readonly socket: () => number
  /** Adds a leader: its tree ends with the server. */
  readonly register: (leader: Identity) => void
  /** Removes a leader: its tree is empty. */
  readonly unregister: (leader: Identity) => void
  /** The server has closed this leader's terminal: the guard does not keep it open any longer. */
  readonly closeTerminal: (leader: Identity) => void
  /** Adds an empty folder, which is removed when the server ends. */
  readonly addFolder: (path: string) => void
  /** Releases the folder: the guard does not remove it any more. */
  readonly removeFolder: (path: string) => void
}

/** A running guard. */
export interface Running {
  /** Where processes register themselves. */
  readonly socket: number
  /** Sends it a message, if it still runs. */
  readonly write: (line: string) => void
  /** Closes its socket: no further message follows. */
  readonly end: () => void
}

/** Starts a guard, or throws. `onFailure` is called in a later turn, when it has ended. */
export type Start = (onFailure: (reason: string) => void) => Running

const startProgram: Start = (onFailure) => {
  const [socket, theirs] = Posix.guardSocket()
  let isOpen = true
  let stopWaiting = () => {}
  // What a guard that has not been scheduled for a while has no room for.
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

/** Logs a failure at once, and those that follow together, at most once a minute: there may be no end of them. */
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
    }

    /** Tells a new guard everything, and a running one what is new. */
    const tellOrStart = (line: string) => {
      if (running === undefined && !isWaiting) restart()
      else tell(line)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        // What is still registered has outlived an orderly end, and the guard deals with it.
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
        // The pid may have been reused meanwhile.
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
      }
    }
  })

/** Watches over the leaders of a server. */
export class Guard extends Context.Tag("exec-server/Guard")<Guard, Shape>() {
  /** A guard, started with the first leader; if it fails, that is logged and another one takes over. */
  static readonly layerOf = (start: Start): Layer.Layer<Guard> => Layer.scoped(Guard, make(start))

  /** A process of its own. */
  static readonly layer: Layer.Layer<Guard> = Guard.layerOf(startProgram)

  /** No guard: for systems without /proc, and for tests. */
  static readonly layerNone: Layer.Layer<Guard> = Layer.succeed(Guard, {
    socket: () => -1,
    register: () => {},
    unregister: () => {},
    closeTerminal: () => {},
    addFolder: () => {},
    removeFolder: () => {}
  })
}
