/**
 * A process and everything that descends from it, found in the process table.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { numberOf, type Signal } from "../protocol/Signals.js"
import type { Identity, Root, SignalTarget } from "./Child.js"
import * as Posix from "./Posix.js"

/** One row of the process table. `startTime` (clock ticks since boot) distinguishes processes that reuse a pid. */
export interface Entry {
  readonly pid: number
  readonly zombie: boolean
  readonly parent: number
  readonly group: number
  readonly session: number
  readonly startTime: number
}

/** A row of the whole table, with what the process uses. */
export interface Row extends Entry {
  /** CPU time in milliseconds: its own, and that of children it has waited for. */
  readonly cpuMs: number
  readonly rssBytes: number
}

/** Whether the leader's pid was reused. */
export const isStranger = (leader: Identity, { pid, startTime }: Entry): boolean =>
  pid === leader.pid && leader.startTime !== 0 && startTime !== leader.startTime

/** The maximum number of readings of a tree while new members appear. */
const maxRounds = 20

/** Reads `/proc/<pid>/stat`; undefined for a process that is gone. */
export const entryOf = (pid: number | string): Entry | undefined => {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1")
  } catch {
    return undefined
  }
  // The name, in parentheses, may itself contain spaces and parentheses: fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return {
    pid: Number(pid),
    zombie: isZombie(fields[0] ?? ""),
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startTime: Number(fields[19])
  }
}

/** The children of a process. */
export const childrenOf = (pid: number): ReadonlyArray<Entry> => {
  let pids: ReadonlyArray<string>
  try {
    pids = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ")
  } catch {
    return table().filter(({ parent }) => parent === pid)
  }
  return pids.flatMap((child) => (child === "" ? [] : (entryOf(child) ?? [])))
}

const isZombie = (state: string) => state === "Z" || state === "X"

/** The whole process table; empty where there is no /proc. */
export const table = (): ReadonlyArray<Row> => {
  const rows = Posix.processTable()
  const entries: Array<Row> = []
  for (let row = 0; row < rows.length; row += Posix.rowLength) {
    entries.push({
      pid: rows[row] ?? 0,
      zombie: isZombie(String.fromCharCode(rows[row + 1] ?? 0)),
      parent: rows[row + 2] ?? 0,
      group: rows[row + 3] ?? 0,
      session: rows[row + 4] ?? 0,
      startTime: rows[row + 5] ?? 0,
      cpuMs: (rows[row + 6] ?? 0) + (rows[row + 7] ?? 0),
      rssBytes: rows[row + 8] ?? 0
    })
  }
  return entries
}

/** An index of a process table. */
interface Index<E extends Entry> {
  readonly byPid: ReadonlyMap<number, E>
  readonly byParent: ReadonlyMap<number, ReadonlyArray<E>>
  readonly byGroup: ReadonlyMap<number, ReadonlyArray<E>>
  readonly bySession: ReadonlyMap<number, ReadonlyArray<E>>
}

const by = <E extends Entry>(entries: ReadonlyArray<E>, key: (entry: E) => number): Map<number, Array<E>> => {
  const map = new Map<number, Array<E>>()
  for (const entry of entries) {
    const same = map.get(key(entry))
    if (same === undefined) map.set(key(entry), [entry])
    else same.push(entry)
  }
  return map
}

// One index serves all leaders of a table.
const indexes = new WeakMap<ReadonlyArray<Entry>, Index<Entry>>()

const indexOf = <E extends Entry>(entries: ReadonlyArray<E>): Index<E> => {
  const known = indexes.get(entries)
  // The cast is safe: the index of a table has its entries.
  if (known !== undefined) return known as Index<E>
  const index = {
    byPid: new Map(entries.map((entry) => [entry.pid, entry])),
    byParent: by(entries, ({ parent }) => parent),
    byGroup: by(entries, ({ group }) => group),
    bySession: by(entries, ({ session }) => session)
  }
  indexes.set(entries, index)
  return index
}

/**
 * The living members of a leader's tree: itself, its group, its session, its strays, and the descendants of all of
 * these. The leader may be gone: its pid stays reserved while its group or session has members. If another process has
 * the pid, only strays are left.
 */
export const membersOf = <E extends Entry>(leader: Root, entries: ReadonlyArray<E>): ReadonlyMap<number, E> => {
  const { byPid, byParent, byGroup, bySession } = indexOf(entries)
  const members = new Map<number, E>()
  const add = (root: E) => {
    // Not a recursion: a chain of processes may be deeper than the stack.
    const found = [root]
    for (let entry = found.pop(); entry !== undefined; entry = found.pop()) {
      if (members.has(entry.pid) || entry.zombie) continue
      members.set(entry.pid, entry)
      for (const child of byParent.get(entry.pid) ?? []) found.push(child)
    }
  }
  for (const { pid, startTime } of leader.strays ?? []) {
    const stray = byPid.get(pid)
    if (stray?.startTime === startTime) add(stray)
  }
  const current = byPid.get(leader.pid)
  if (current !== undefined && isStranger(leader, current)) return members
  if (current !== undefined) add(current)
  for (const roots of [byGroup.get(leader.pid), bySession.get(leader.pid)]) for (const root of roots ?? []) add(root)
  return members
}

/** Sends a signal. A missing or forbidden target is no error. A negative pid is a group. */
export const kill = (pid: number, signal: Signal): void => {
  try {
    process.kill(pid, numberOf(signal))
  } catch {
    // The process is gone, or may not be signalled (a set-uid descendant).
  }
}

/** Whether another process has reused a leader's pid. Then only strays can be left of its tree. */
const isTaken = (leader: Identity): boolean => {
  const current = entryOf(leader.pid)
  return current !== undefined && isStranger(leader, current)
}

/**
 * The targets that make a signal reach each process once: pids, and groups as negative numbers. Signalling the group of
 * a dead leader is safe: its pid stays reserved while the group has members, and without members the signal reaches
 * nobody.
 */
export const recipientsOf = (
  leader: Identity,
  target: SignalTarget,
  members: Iterable<Entry>
): ReadonlyArray<number> => {
  const own = isTaken(leader) ? [] : [target === "leader" ? leader.pid : -leader.pid]
  if (target !== "tree") return own
  return [...own, ...Array.from(members).flatMap(({ pid, group }) => (group === leader.pid ? [] : [pid]))]
}

/** Stops all members first, so that none can escape by forking, then kills them. */
export const killAll = (leaders: ReadonlyArray<Root>) => {
  const groups = leaders.flatMap((leader) => recipientsOf(leader, "group", []))
  for (const group of groups) kill(group, "SIGSTOP")
  const stopped = new Set<number>()
  let members: Array<Entry> = []
  for (let round = 0; round < maxRounds; round++) {
    const entries = table()
    members = leaders.flatMap((leader) =>
      Array.from(membersOf(leader, entries).values()).filter(({ group }) => group !== leader.pid)
    )
    const fresh = members.filter(({ pid }) => !stopped.has(pid))
    if (fresh.length === 0) break
    for (const { pid } of fresh) {
      stopped.add(pid)
      kill(pid, "SIGSTOP")
    }
  }
  for (const group of groups) kill(group, "SIGKILL")
  for (const { pid } of members) kill(pid, "SIGKILL")
}
