/**
 * Bounds the memory for the output and the screens of all commands together. Beyond the limit, commands that have ended
 * are forgotten, the one not asked for longest first; when there are none, running ones keep less.
 *
 * @since 0.1.0
 */

/** The limit, in bytes. */
const defaultLimit = 256 * 1048576

/** What a screen counts for, in bytes: more than most of them take. */
export const screenBytes = 2 * 1048576

/** The memory for the commands of all callers. */
export class OutputBudget {
  private used = 0
  /** How to forget what has ended, the one not asked for longest first. */
  private readonly ended = new Map<object, () => void>()

  /** `limit` is in bytes. */
  constructor(readonly limit = defaultLimit) {}

  /** Takes memory, in bytes, for which others may be forgotten. */
  take(bytes: number): void {
    this.used += bytes
    for (const [owner, forget] of this.ended) {
      if (!this.isExceeded) return
      this.ended.delete(owner)
      forget()
    }
  }

  /** Gives memory back, in bytes. */
  give(bytes: number): void {
    this.used -= bytes
  }

  /** Whether more is taken than there should be: nothing is left to forget. */
  get isExceeded(): boolean {
    return this.used > this.limit
  }

  /** What has ended may be forgotten from now on, after all others. */
  offer(owner: object, forget: () => void): void {
    this.withdraw(owner)
    this.ended.set(owner, forget)
  }

  /** It is forgotten. */
  withdraw(owner: object): void {
    this.ended.delete(owner)
  }
}
