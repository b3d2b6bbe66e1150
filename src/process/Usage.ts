/**
 * What processes use: CPU time, memory and I/O of whole trees, from one reading of the process table for all who ask.
 *
 * The process table has only living processes. The CPU time of one that has ended is known if its parent in the tree has
 * waited for it, or from an earlier reading; otherwise it is not counted.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import type { ProcessUsage } from "../protocol/UsageApi.js"
import type { Root } from "../spawn/Child.js"
import { membersOf, type Row, table } from "../spawn/ProcessTree.js"
import type { ManagedProcess } from "./ManagedProcess.js"

/** How long a reading of the process table serves everybody, in milliseconds. */
const freshMs = 250

/** How long it serves for a tree that it does not have: one that began since. In milliseconds. */
const freshForNewMs = 5

/** The most processes of a tree whose I/O is read between two turns of the event loop. */
const ioSlice = 64

/** What a tree uses, without I/O. */
export type TreeUsage = Pick<ProcessUsage, "cpuMs" | "rssBytes" | "processes">

/** The CPU time of a process so far: of its ended children, and of the current one with its tree. */
interface Known {
  root: Root | undefined
  earlierMs: number
  currentMs: number
}

/** Reads `/proc/<pid>/io`; undefined if the process is gone, or belongs to somebody else. */
const ioOf = (pid: number): { readonly readBytes: number; readonly writeBytes: number } | undefined => {
  try {
    const text = readFileSync(`/proc/${pid}/io`, "latin1")
    const field = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(text)?.[1] ?? 0)
    return { readBytes: field("read_bytes"), writeBytes: field("write_bytes") }
  } catch {
    return undefined
  }
}

/** The usage of the processes of a server. */
export class Usage {
  private rows: ReadonlyArray<Row> = []
  private readAtMs = Number.NEGATIVE_INFINITY
  private readonly known = new WeakMap<ManagedProcess, Known>()

  /** `read` reads the process table. */
  constructor(private readonly read: () => ReadonlyArray<Row> = table) {}

  /** What a process and its tree use, except I/O. */
  of(process: ManagedProcess): TreeUsage {
    return this.total(process, this.members(process))
  }

  /** What a process and its tree use. */
  all(process: ManagedProcess): Effect.Effect<ProcessUsage> {
    return Effect.gen(this, function* () {
      const members = this.members(process)
      const total = { ...this.total(process, members), readBytes: 0, writeBytes: 0 }
      for (const [index, { pid }] of members.entries()) {
        if (index % ioSlice === ioSlice - 1) yield* Effect.yieldNow()
        const io = ioOf(pid)
        total.readBytes += io?.readBytes ?? 0
        total.writeBytes += io?.writeBytes ?? 0
      }
      return total
    })
  }

  /** The living processes of the tree of a process. */
  private members(process: ManagedProcess): ReadonlyArray<Row> {
    const { root } = process
    if (root === undefined) return []
    const members = membersOf(root, this.scan(freshMs))
    const isNew = members.size === 0 && this.known.get(process)?.root !== root
    return Array.from((isNew ? membersOf(root, this.scan(freshForNewMs)) : members).values())
  }

  private total(process: ManagedProcess, members: ReadonlyArray<Row>): TreeUsage {
    return {
      cpuMs: this.cpuMsOf(process, members),
      rssBytes: members.reduce((sum, { rssBytes }) => sum + rssBytes, 0),
      processes: members.length
    }
  }

  /** The process table, at most this old. */
  private scan(maxAgeMs: number): ReadonlyArray<Row> {
    // Not the Clock of Effect: this is about the work of this machine.
    const now = performance.now()
    if (now - this.readAtMs > maxAgeMs) {
      this.rows = this.read()
      this.readAtMs = now
    }
    return this.rows
  }

  /** The CPU time of a process so far; never less than before. */
  private cpuMsOf(process: ManagedProcess, members: ReadonlyArray<Row>): number {
    const known = this.known.get(process) ?? { root: undefined, earlierMs: 0, currentMs: 0 }
    this.known.set(process, known)
    const { root } = process
    // A process that was restarted has another tree.
    if (root !== undefined && root !== known.root) {
      known.root = root
      known.earlierMs += known.currentMs
      known.currentMs = 0
    }
    const nowMs = members.reduce((sum, { cpuMs }) => sum + cpuMs, 0)
    known.currentMs = Math.max(known.currentMs, Math.round(nowMs))
    return known.earlierMs + known.currentMs
  }
}
