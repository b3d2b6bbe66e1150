/**
 * The process trees of all children of a server: signals them, kills them together, and registers them with the guard.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Signal } from "../protocol/Signals.js"
import * as Cgroups from "./Cgroups.js"
import type { Identity, Root, SignalTarget } from "./Child.js"
import { Guard } from "./Guard.js"
import { type Entry, entryOf, kill, killAll, membersOf, recipientsOf, table } from "./ProcessTree.js"

/**
 * How often trees without a leader are checked for remaining members, in milliseconds. All are checked at once: reading
 * the process table blocks the event loop for some milliseconds.
 */
const pruneMs = 2000

/** How long after the start of a server the cgroups of killed ones are removed, in milliseconds. */
const sweepMs = 1000

/** The tree under one leader. */
export interface Tree {
  /** Its roots in the process table. */
  readonly root: Root
  /**
   * Sends a signal to the leader, its group, or every member. SIGKILL to a tree is delivered at the end of this turn of
   * the event loop.
   */
  readonly signal: (signal: Signal, target: SignalTarget) => void
  /** Tells that the leader was reaped. Its descendants stay registered with the guard. */
  readonly reaped: () => void
  /** Whether members of the tree may have survived the leader. Cheap; true when in doubt. */
  readonly hasRemains: () => boolean
  /** The same with certainty. Reads the process table. */
  readonly findRemains: () => boolean
  /** Tells that the server has closed the leader's terminal. */
  readonly closeTerminal: () => void
}

/** The trees of all children. */
export interface Shape {
  /**
   * Tracks the tree of a leader that was just started, leads its own session, and was not reaped yet; with the cgroup
   * that it was started in.
   */
  readonly track: (pid: number, cgroup?: Cgroups.Cgroup) => Tree
  /** The cgroups of children. */
  readonly cgroups: Cgroups.Shape
  /** The socket on which leaders register with the guard during their start. */
  readonly guardSocket: () => number
}

const make = Effect.gen(function* () {
  const guard = yield* Guard
  const cgroups = Cgroups.make(yield* Cgroups.CgroupParent, guard.setCgroup)
  const sweeper = setTimeout(cgroups.sweep, sweepMs).unref()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      clearTimeout(sweeper)
      cgroups.close()
    })
  )
  const cgroupOf = new WeakMap<Root, Cgroups.Cgroup>()
  /** What ends the waits for the end of trees that outlive their leaders. */
  const waits = new WeakMap<Root, () => void>()

  // Trees killed in the same turn of the event loop share the readings of the process table: ending a thousand
  // processes takes a few readings.
  let doomed: Array<Root> = []
  const doom = (leader: Root) => {
    if (doomed.length === 0) {
      setImmediate(() => {
        const leaders = doomed
        doomed = []
        for (const leader of leaders) cgroupOf.get(leader)?.kill()
        // Even then: root can leave a cgroup.
        killAll(leaders)
      })
    }
    doomed.push(leader)
  }

  // The same sharing for other signals.
  let shared: ReadonlyArray<Entry> | undefined
  const tableOfThisTurn = () => {
    if (shared === undefined) {
      shared = table()
      setImmediate(() => {
        shared = undefined
      })
    }
    return shared
  }

  const leaderless = new Set<Root>()
  let timer: NodeJS.Timeout | undefined
  /** Forgets a tree without members. An empty table means that it could not be read. */
  const forgetIfGone = (leader: Root, entries: ReadonlyArray<Entry>) => {
    if (entries.length === 0 || membersOf(leader, entries).size > 0) return
    if (cgroupOf.get(leader)?.remove() === false) return
    leaderless.delete(leader)
    waits.get(leader)?.()
    guard.unregister(leader)
    for (const stray of leader.strays ?? []) guard.unregister(stray)
  }
  const prune = () => {
    timer = undefined
    const entries = table()
    for (const leader of leaderless) forgetIfGone(leader, entries)
    schedule()
  }
  const schedule = () => {
    if (leaderless.size > 0) timer ??= setTimeout(prune, pruneMs).unref()
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => clearTimeout(timer)))

  /** The members that only the cgroup has: daemons that have left the session and the leader's descendants. */
  const othersIn = (leader: Root, members: ReadonlyMap<number, Entry>): ReadonlyArray<Entry> =>
    (cgroupOf.get(leader)?.pids() ?? []).flatMap((pid) => (members.has(pid) ? [] : (entryOf(pid) ?? [])))

  const track = (pid: number, cgroup?: Cgroups.Cgroup): Tree => {
    const leader: Identity & { strays?: ReadonlyArray<Identity> } = { pid, startTime: entryOf(pid)?.startTime ?? 0 }
    let isDoomed = false
    guard.register(leader)
    if (cgroup !== undefined) cgroupOf.set(leader, cgroup)

    /**
     * Remembers members outside of the leader's session. A signal to the tree may end the leader, and they could not be
     * found any more.
     */
    const remember = (strays: ReadonlyArray<Identity>) => {
      if (strays.length === 0 && leader.strays === undefined) return
      for (const stray of leader.strays ?? []) guard.unregister(stray)
      for (const stray of strays) guard.register(stray)
      leader.strays = strays
    }

    return {
      root: leader,
      signal: (signal, target) => {
        // SIGKILL is due in this turn of the event loop, and a later signal must not overtake it.
        if (isDoomed && signal !== "SIGKILL") return
        if (signal === "SIGKILL" && target === "tree") {
          isDoomed = true
          return doom(leader)
        }
        const found = target === "tree" ? membersOf(leader, tableOfThisTurn()) : new Map<number, Entry>()
        const members = target === "tree" ? [...found.values(), ...othersIn(leader, found)] : []
        if (target === "tree") remember(members.filter(({ session }) => session !== pid))
        for (const recipient of recipientsOf(leader, target, members)) kill(recipient, signal)
      },
      reaped: () => {
        // Nothing is left that could have survived.
        if (cgroup?.remove() === true) return guard.unregister(leader)
        leaderless.add(leader)
        schedule()
        if (cgroup !== undefined)
          waits.set(
            leader,
            cgroup.onEmpty(() => forgetIfGone(leader, tableOfThisTurn()))
          )
      },
      hasRemains: () => leaderless.has(leader),
      findRemains: () => {
        if (leaderless.has(leader)) forgetIfGone(leader, tableOfThisTurn())
        return leaderless.has(leader)
      },
      closeTerminal: () => guard.closeTerminal(leader)
    }
  }
  return { track, guardSocket: guard.socket, cgroups }
})

/** The trees of a server's children. */
export class ProcessTrees extends Context.Tag("exec-server/ProcessTrees")<ProcessTrees, Shape>() {
  /** Process trees registered with `Guard`. */
  static readonly layer: Layer.Layer<ProcessTrees, never, Guard> = Layer.scoped(ProcessTrees, make)
}
