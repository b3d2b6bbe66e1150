/**
 * Which session gives its place to a new one when there are `maxSessions` of them.
 *
 * A client that opens sessions and leaves them would otherwise keep everybody out until they expire. Nothing that
 * another subject is due is taken: a subject gives up places only to one that has fewer.
 *
 * The places are counted as they are taken, and detached sessions stay in the order in which they expire: a client
 * that connects again and again must not cost a walk through all sessions each time.
 *
 * @since 0.1.0
 */

/** What is known of a detached session. */
export interface Candidate {
  readonly subject: string
  /** Whether its client asked for the time that it waits. */
  readonly isKept: boolean
  readonly hasProcesses: boolean
  /** In milliseconds since 1970; infinite if it does not expire. */
  readonly expiresAtMs: number
}

/** Which of two sessions of one subject is missed less: negative if it is the first. */
const compare = (a: Candidate, b: Candidate): number =>
  Number(a.hasProcesses) - Number(b.hasProcesses) ||
  Number(a.isKept) - Number(b.isKept) ||
  (a.expiresAtMs < b.expiresAtMs ? -1 : 1)

/** The places of all sessions. */
export class SessionPlaces<A extends Candidate> {
  /** The number of sessions of each subject. */
  private readonly counts = new Map<string, number>()
  /** The detached sessions of each subject; those that no client asked to be kept in the order of their expiry. */
  private readonly detached = new Map<string, Set<A>>()

  /** A session takes a place. */
  take({ subject }: A): void {
    this.counts.set(subject, this.countOf(subject) + 1)
  }

  /** A session has ended. */
  leave(session: A): void {
    this.attach(session)
    const left = this.countOf(session.subject) - 1
    if (left > 0) this.counts.set(session.subject, left)
    else this.counts.delete(session.subject)
  }

  /** A session waits for its client. Those that are not `isKept` are detached in the order of their expiry. */
  detach(session: A): void {
    const same = this.detached.get(session.subject)
    if (same === undefined) this.detached.set(session.subject, new Set([session]))
    else same.add(session)
  }

  /** A session is resumed. */
  attach(session: A): void {
    const same = this.detached.get(session.subject)
    if (same?.delete(session) && same.size === 0) this.detached.delete(session.subject)
  }

  /**
   * The detached session that is ended for a new one of `subject`; undefined if there is none. It belongs to the subject
   * with the most sessions. These must be at least two more than `subject` has, or `subject` itself has the most: then
   * only a session without processes is ended.
   */
  displaced(subject: string): A | undefined {
    const own = this.countOf(subject)
    let most = 0
    let found: A | undefined
    for (const [other, sessions] of this.detached) {
      const count = this.countOf(other)
      if (count < most || (other !== subject && count <= own + 1)) continue
      const least = this.leastOf(sessions, other !== subject)
      if (least === undefined || (count === most && found !== undefined && compare(found, least) < 0)) continue
      most = count
      found = least
    }
    return found
  }

  /** Which of these is missed least. */
  private leastOf(sessions: Iterable<A>, withProcesses: boolean): A | undefined {
    let least: A | undefined
    for (const session of sessions) {
      const { hasProcesses } = session
      if (!hasProcesses && !session.isKept) return session
      if (hasProcesses && !withProcesses) continue
      if (least === undefined || compare(session, least) < 0) least = session
    }
    return least
  }

  private countOf(subject: string): number {
    return this.counts.get(subject) ?? 0
  }
}
