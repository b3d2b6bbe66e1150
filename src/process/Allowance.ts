/**
 * Limits on the memory that the processes of a session retain besides their output: ids, arguments, environments for
 * restarts, and queued input. Each session has a limit, and so has the server.
 *
 * @since 0.1.0
 */
import { LimitReached } from "../protocol/Failure.js"

/** The memory budget of one session. */
export interface Allowance {
  /** Takes this many bytes, or returns the limit that forbids it. */
  readonly take: (bytes: number) => LimitReached | undefined
  /** Takes this many bytes whatever the limits: a process of the version of the server before has them. */
  readonly restore: (bytes: number) => void
  /** Returns bytes that were taken. */
  readonly give: (bytes: number) => void
  /** Returns everything at the end of the session. Later calls of `give` have no effect. */
  readonly close: () => void
}

/** The limits of a server's allowances, in bytes. */
export interface Limits {
  readonly processBytesPerSession: number
  readonly processBytesTotal: number
}

/**
 * What each session may take even when the server's limit is exhausted, in bytes. Sessions with small needs keep
 * working.
 */
export const reservedBytes = 262144

/** The memory of a string besides its characters, in bytes. */
const stringOverhead = 32

/** The memory of a string, in bytes. */
export const weightOf = (text: string): number => 2 * text.length + stringOverhead

/** The memory of all strings of a list, or of all names and values of a map. */
export const weightOfAll = (texts: ReadonlyArray<string> | { readonly [name: string]: string }): number => {
  let bytes = 0
  if (Array.isArray(texts)) for (const text of texts) bytes += weightOf(text)
  else for (const [name, value] of Object.entries(texts)) bytes += weightOf(name) + weightOf(value)
  return bytes
}

/** No limit, for processes outside of sessions. */
export const unlimited: Allowance = { take: () => undefined, restore: () => {}, give: () => {}, close: () => {} }

/** The allowances of one server. */
export class Allowances {
  private total = 0

  constructor(private readonly limits: Limits) {}

  /** The allowance of a new session. */
  make(): Allowance {
    const { processBytesPerSession, processBytesTotal } = this.limits
    let used = 0
    let isClosed = false
    const add = (bytes: number) => {
      used += bytes
      this.total += bytes
    }
    const give = (bytes: number) => {
      if (!isClosed) add(-bytes)
    }
    return {
      take: (bytes) => {
        if (used + bytes > processBytesPerSession) {
          const advice = "end processes, wait for closed ones to be forgotten, or write less input before it is read"
          return new LimitReached({ limit: "processBytesPerSession", value: processBytesPerSession, advice })
        }
        if (this.total + bytes > processBytesTotal && used + bytes > reservedBytes) {
          const advice = "the sessions of the server keep too much together: end processes, or try again later"
          return new LimitReached({ limit: "processBytesTotal", value: processBytesTotal, advice })
        }
        add(bytes)
        return undefined
      },
      restore: add,
      give,
      close: () => {
        give(used)
        isClosed = true
      }
    }
  }
}
