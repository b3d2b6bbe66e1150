/**
 * The output of one process that its client has not acknowledged yet. The buffers of a connection are no flow control
 * for clients, such as browsers, that take bytes from it faster than they show them.
 *
 * @since 0.1.0
 */

/** The smallest window, in bytes: a client that asks for less gets this one. */
export const minWindowBytes = 16384
/** The largest window, in bytes. */
export const maxWindowBytes = 4194304

/** Chunks are counted together up to this part of the window: many of one byte would take more memory than they are. */
const groupsPerWindow = 16

/** A window of so many bytes. */
export class OutputWindow {
  private readonly groups: Array<{ lastSeq: number; bytes: number }> = []
  private unacknowledged = 0

  constructor(private readonly limit: number) {}

  /** Whether the process must not be read. */
  get isFull(): boolean {
    return this.unacknowledged >= this.limit
  }

  /** A chunk was sent. */
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

  /** The client has shown everything up to `seq`. */
  acknowledge(seq: number): void {
    for (let [first] = this.groups; first !== undefined && first.lastSeq <= seq; [first] = this.groups) {
      this.unacknowledged -= first.bytes
      this.groups.shift()
    }
  }
}
