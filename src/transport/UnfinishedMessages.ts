/**
 * Bounds the bytes of incomplete messages on all connections of a server: each connection may send a long message, but
 * not all of them at once. Beyond the limit, the connection with the most bytes is cut off, so that a client with many
 * incomplete messages cannot get clients with shorter ones cut off.
 *
 * @since 0.1.0
 */

/** The incomplete message of one connection. */
export interface Unfinished {
  /** Adds bytes that have arrived. */
  readonly grow: (bytes: number) => void
  /** Subtracts bytes that belong to something else. */
  readonly shrink: (bytes: number) => void
  /** The message is complete, or will never be. */
  readonly finish: () => void
}

interface Part extends Unfinished {
  bytes: number
  /** Cuts its connection off, with this reason. */
  readonly cut: (reason: string) => void
}

/** The incomplete messages of one server. */
export class UnfinishedMessages {
  private readonly parts = new Set<Part>()
  private total = 0

  /** `limit` is the total in bytes. */
  constructor(private readonly limit: number) {}

  /** Tracks another connection. Calls `cut` with the reason if the connection is to be cut off. */
  make(cut: (reason: string) => void): Unfinished {
    const change = (bytes: number) => {
      part.bytes += bytes
      this.total += bytes
      if (part.bytes === 0) this.parts.delete(part)
    }
    const part: Part = {
      bytes: 0,
      cut,
      grow: (bytes) => {
        this.parts.add(part)
        change(bytes)
        if (this.total > this.limit) this.cutLargest()
      },
      shrink: (bytes) => change(-Math.min(bytes, part.bytes)),
      finish: () => change(-part.bytes)
    }
    return part
  }

  private cutLargest(): void {
    let largest: Part | undefined
    for (const part of this.parts) if (largest === undefined || part.bytes > largest.bytes) largest = part
    if (largest === undefined) return
    largest.finish()
    largest.cut(
      `the limit unfinishedMessageBytesTotal (${this.limit}) is reached; send shorter messages, or finish them`
    )
  }
}
