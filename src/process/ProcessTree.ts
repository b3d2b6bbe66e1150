/**
 * A process and everything that descends from it, found in the process table.
 *
 * @since 0.1.0
 */
import { readdirSync, readFileSync } from "node:fs"
import type { Signal } from "../protocol/Signals.js"

/** One line of the process table. `startTime` (clock ticks since boot) tells a process from a later one of its pid. */
export interface Entry {
  readonly pid: number
  readonly zombie: boolean
  readonly parent: number
  readonly group: number
  readonly session: number
  readonly startTime: number
}

/** A process by pid and start time: a name that is never given out twice. A start time of 0 is not known. */
export type Identity = Pick<Entry, "pid" | "startTime">

/** Whether another process has a leader's pid by now. */
export const isStranger = (leader: Identity, { pid, startTime }: Entry): boolean =>
  pid === leader.pid && leader.startTime !== 0 && startTime !== leader.startTime

/** How often a tree is looked at again while it still shows new members. */
const maxRounds = 20

/** Reads `/proc/<pid>/stat`; undefined for a process that is gone. */
export const entryOf = (pid: number | string): Entry | undefined => {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1")
  } catch {
    return undefined
  }
  // The name, in parentheses, may itself hold spaces and parentheses: fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return {
    pid: Number(pid),
    zombie: fields[0] === "Z" || fields[0] === "X",
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

/** The whole process table; empty where there is no /proc. */
export const table = (): ReadonlyArray<Entry> => {
  let names: ReadonlyArray<string>
  try {
    names = readdirSync("/proc")
  } catch {
    return []
  }
  const entries: Array<Entry> = []
  for (const name of names) {
    const first = name.charCodeAt(0)
    if (first < 0x31 || first > 0x39) continue
    const entry = entryOf(name)
    if (entry !== undefined) entries.push(entry)
  }
  return entries
}

/**
 * The living tree of a leader: itself, its group, its session, and the descendants of all of those. The leader may be
 * gone: its number stays reserved for its group and session while these have members. If a stranger has the number,
 * nothing of the tree is left.
 */
export const membersOf = (leader: Identity, entries: ReadonlyArray<Entry>): ReadonlyMap<number, Entry> => {
  const members = new Map<number, Entry>()
  if (entries.some((entry) => isStranger(leader, entry))) return members
  const children = new Map<number, Array<Entry>>()
  for (const entry of entries) {
    const siblings = children.get(entry.parent)
    if (siblings === undefined) children.set(entry.parent, [entry])
    else siblings.push(entry)
  }
  const add = (entry: Entry) => {
    if (members.has(entry.pid) || entry.zombie) return
    members.set(entry.pid, entry)
    for (const child of children.get(entry.pid) ?? []) add(child)
  }
  for (const entry of entries) {
    if (entry.pid === leader.pid || entry.group === leader.pid || entry.session === leader.pid) add(entry)
  }
  return members
}

/** Sends a signal; nobody there, or nobody we may signal, is no error. A negative pid is a group. */
export const kill = (pid: number, signal: Signal): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // Gone already, or not ours to signal (a set-uid descendant): there is nobody else to ask.
  }
}

/** Stops every member first, so that none can fork its way out of the table, then kills them all. */
export const killAll = (leaders: ReadonlyArray<Identity>) => {
  for (const { pid } of leaders) kill(-pid, "SIGSTOP")
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
  for (const { pid } of leaders) kill(-pid, "SIGKILL")
  for (const { pid } of members) kill(pid, "SIGKILL")
}
