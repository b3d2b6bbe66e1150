/**
 * The bytes of messages that have not arrived in full, of all connections of a server: each connection may send a long
 * message, but not all of them at once. Beyond the limit the connection with the most bytes is cut off, so that one who
 * sends many long messages and finishes none cannot get others cut off, whose messages are shorter.
 *
 * @since 0.1.0
 */

/** The unfinished message of one connection. */
export interface Unfinished {
  /** So many more bytes of it have arrived. */
  readonly grow: (bytes: number) => void
  /** So many of these bytes were of something else. */
  readonly shrink: (bytes: number) => void
  /** It has arrived in full, or will not any more. */
  readonly finish: () => void
}

interface Part extends Unfinished {
  bytes: number
  /** Nothing more is read from its connection. */
  readonly cut: (reason: string) => void
}

/** Those of one server. */
export class UnfinishedMessages {
  private readonly parts = new Set<Part>()
  private total = 0

  /** `limit` is in bytes, of all together. */
  constructor(private readonly limit: number) {}

  /** That of another connection; `cut` is called with the reason if the connection is to be cut off. */
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
