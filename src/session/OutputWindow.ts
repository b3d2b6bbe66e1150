/**
 * Flow control by acknowledgement, for clients such as browsers: they read from the connection faster than they consume
 * the output, so the connection's own flow control does not slow the process down.
 *
 * @since 0.1.0
 */

/** The smallest window, in bytes. */
const minWindowBytes = 16384

/** The largest window, in bytes. */
const maxWindowBytes = 4194304

/** The window that is granted to a client that asks for one, in bytes: the nearest of those that there are. */
export const grantedWindow = (bytes: number): number => Math.min(Math.max(bytes, minWindowBytes), maxWindowBytes)

/** Small chunks are counted in groups, each up to this fraction of the window, to bound the memory. */
const groupsPerWindow = 16

/** The unacknowledged output of one process. */
export class OutputWindow {
  private readonly groups: Array<{ lastSeq: number; bytes: number }> = []
  private unacknowledged = 0

  constructor(private readonly limit: number) {}

  /** Whether reading the process must stop. */
  get isFull(): boolean {
    return this.unacknowledged >= this.limit
  }

  /** Counts a chunk that was sent. */
  add(seq: number, bytes: number): void {
    this.unacknowledged += bytes
    const last = this.groups.at(-1)
    if (last === undefined || last.bytes + bytes > this.limit / groupsPerWindow) {
      this.groups.push({ lastSeq: seq, bytes })
    } else {
      last.lastSeq = seq
      last.bytes += bytes
    }
  }

  /** Releases all chunks up to `seq`. */
  acknowledge(seq: number): void {
    for (let [first] = this.groups; first !== undefined && first.lastSeq <= seq; [first] = this.groups) {
      this.unacknowledged -= first.bytes
      this.groups.shift()
    }
  }
}
