/**
 * The connections that are told regularly what processes use. One fiber serves all of them, while there are any.
 *
 * @since 0.1.0
 */
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"
import type { TreeUsage, Usage } from "../process/Usage.js"
import { minIntervalMs, type UsageSample } from "../protocol/UsageApi.js"
import type { Connection } from "./CurrentConnection.js"
import type { Session } from "./SessionRegistry.js"

/** The most processes in a sample. */
const maxProcesses = 1000

/** Watches that are due within this time share a sample, in milliseconds. */
const togetherMs = 100

/** The resolution of the event loop's delay, in milliseconds. */
const resolutionMs = 20

/** The watch of a connection. */
interface Watch {
  readonly intervalMs: number
  /** The sessions that it sees, now. */
  readonly sessions: () => ReadonlyArray<Session>
  nextAtMs: number
}

/** The watches of a server. */
export interface UsageWatches {
  /** Begins the watch of a connection, in place of an earlier one; without an interval, only ends that. */
  readonly watch: (
    connection: Connection,
    intervalMs: number | null,
    sessions: () => ReadonlyArray<Session>
  ) => Effect.Effect<void>
}

/** Measures how late the event loop is, between `start` and `stop`. */
const makeDelay = () => {
  let histogram: IntervalHistogram | undefined
  return {
    start: () => {
      histogram ??= monitorEventLoopDelay({ resolution: resolutionMs })
      histogram.enable()
    },
    stop: () => {
      histogram?.disable()
      histogram = undefined
    },
    /** The longest delay since the last call, in milliseconds. The timer itself adds its resolution. */
    take: () => {
      const delayMs = histogram === undefined || histogram.count === 0 ? 0 : histogram.max / 1e6 - resolutionMs
      histogram?.reset()
      return Math.max(0, Math.round(delayMs))
    }
  }
}

/** No watches yet. They end with the scope. */
export const make = (usage: Usage): Effect.Effect<UsageWatches, never, Scope.Scope> =>
  Effect.gen(function* () {
    const watches = new Map<Connection, Watch>()
    /** When each connection that has asked was last sent a sample: asking again does not get it more of them. */
    const lastAtMs = new WeakMap<Connection, number>()
    const delay = makeDelay()
    const fiber = yield* FiberHandle.make<void>()
    yield* Effect.addFinalizer(() => Effect.sync(delay.stop))

    const serverUsage = (): UsageSample["server"] => {
      const { user, system } = process.cpuUsage()
      return {
        cpuMs: Math.round((user + system) / 1000),
        rssBytes: process.memoryUsage.rss(),
        eventLoopDelayMs: delay.take()
      }
    }

    /** The processes of these sessions that have a tree. */
    const processesOf = (sessions: ReadonlyArray<Session>, used: Map<object, TreeUsage>) => {
      const alive = sessions.flatMap(({ handle, supervisor }) =>
        supervisor.list().flatMap((process) => (process.root === undefined ? [] : [{ session: handle, process }]))
      )
      const processes = alive.slice(0, maxProcesses).map(({ session, process }) => {
        const found = used.get(process) ?? usage.of(process)
        used.set(process, found)
        return { session, processId: process.processId, ...found }
      })
      return { processes, ...(alive.length > maxProcesses ? { omitted: alive.length - maxProcesses } : {}) }
    }

    const tell = (now: number) => {
      const server = serverUsage()
      const used = new Map<object, TreeUsage>()
      for (const [connection, watch] of watches) {
        if (watch.nextAtMs > now + togetherMs) continue
        watch.nextAtMs = now + watch.intervalMs
        lastAtMs.set(connection, now)
        // A client that does not read gets the next sample that it has room for.
        if (connection.responseBudget.isFull()) continue
        connection.notify("usage/sample", { atMs: now, server, ...processesOf(watch.sessions(), used) })
      }
    }

    const run: Effect.Effect<void> = Effect.gen(function* () {
      while (watches.size > 0) {
        const nextAtMs = Math.min(...Array.from(watches.values(), ({ nextAtMs }) => nextAtMs))
        // At least a turn of the event loop: the answer to the request comes first.
        yield* Effect.sleep(Math.max(1, nextAtMs - (yield* Clock.currentTimeMillis)))
        tell(yield* Clock.currentTimeMillis)
      }
    })

    /** Begins, or ends, to serve the watches. */
    const turn = Effect.suspend(() => {
      if (watches.size > 0) {
        delay.start()
        return Effect.asVoid(FiberHandle.run(fiber, run))
      }
      delay.stop()
      return FiberHandle.clear(fiber)
    })

    const end = (connection: Connection) =>
      Effect.suspend(() => (watches.delete(connection) && watches.size === 0 ? turn : Effect.void))

    return {
      watch: (connection, intervalMs, sessions) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (intervalMs === null) return end(connection)
          const last = lastAtMs.get(connection)
          if (last === undefined) {
            lastAtMs.set(connection, Number.NEGATIVE_INFINITY)
            connection.onEnd(end(connection))
            connection.holds("watches of usage", () => (watches.has(connection) ? 1 : 0))
          }
          const nextAtMs = Math.max(now, (last ?? Number.NEGATIVE_INFINITY) + minIntervalMs)
          watches.set(connection, { intervalMs, sessions, nextAtMs })
          return turn
        })
    }
  })
