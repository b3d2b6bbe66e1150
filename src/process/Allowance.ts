/**
 * What may be kept for the processes of a session besides their output: ids, arguments, environments for restarts, and
 * input that waits. Every session has a limit, and so has the server.
 *
 * @since 0.1.0
 */
import { LimitReached } from "../protocol/Failure.js"

/** The memory that one session may take. */
export interface Allowance {
  /** Takes so many bytes, or says which limit forbids that. */
  readonly take: (bytes: number) => LimitReached | undefined
  /** Gives bytes back that were taken. */
  readonly give: (bytes: number) => void
  /** Gives everything back: the session has ended. What is given afterwards does not count. */
  readonly close: () => void
}

/** The limits of a server's allowances, in bytes. */
export interface Limits {
  readonly processBytesPerSession: number
  readonly processBytesTotal: number
}

/**
 * What a session has whatever others take, in bytes: those who need little go on when somebody else has taken all.
 */
export const reservedBytes = 262144

/** What a string takes besides its characters, in bytes. */
const stringOverhead = 32

/** What a string takes in memory, in bytes. */
export const weightOf = (text: string): number => 2 * text.length + stringOverhead

/** The same for all strings of a list or a map, its names included. */
export const weightOfAll = (texts: ReadonlyArray<string> | { readonly [name: string]: string }): number => {
  let bytes = 0
  if (Array.isArray(texts)) for (const text of texts) bytes += weightOf(text)
  else for (const [name, value] of Object.entries(texts)) bytes += weightOf(name) + weightOf(value)
  return bytes
}

/** No limit: for what is not of a session. */
export const unlimited: Allowance = { take: () => undefined, give: () => {}, close: () => {} }

/** The allowances of one server. */
export class Allowances {
  private total = 0

  constructor(private readonly limits: Limits) {}

  /** That of another session. */
  make(): Allowance {
    const { processBytesPerSession, processBytesTotal } = this.limits
    let used = 0
    let isClosed = false
    const give = (bytes: number) => {
      if (isClosed) return
      used -= bytes
      this.total -= bytes
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
        used += bytes
        this.total += bytes
        return undefined
      },
      give,
      close: () => {
        give(used)
        isClosed = true
      }
    }
  }
}
