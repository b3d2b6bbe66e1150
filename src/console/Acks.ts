/**
 * Acknowledgements of output: each says up to which event everything is shown. The server counts what is not acknowledged,
 * and starts anew with each connection; so does this.
 *
 * @since 0.1.0
 */

/** The acknowledgements of one process, or of one attachment, on one connection. */
export class Acks {
  private shownSeq = 0
  private sentSeq = 0
  private bytes = 0

  /** Sends one for each `step` bytes. */
  constructor(
    private readonly step: number,
    private readonly send: (seq: number) => void
  ) {}

  /** The output of the event `seq`, and all before it, is shown. */
  shown(seq: number, bytes: number): void {
    this.shownSeq = Math.max(this.shownSeq, seq)
    this.bytes += bytes
    if (this.bytes >= this.step) this.flush()
  }

  /** Says what is shown so far, unless that was said. */
  flush(): void {
    this.bytes = 0
    if (this.shownSeq <= this.sentSeq) return
    this.sentSeq = this.shownSeq
    this.send(this.shownSeq)
  }
}
