/**
 * Which session gives its place to a new one when there are `maxSessions` of them.
 *
 * A client that opens sessions and leaves them would otherwise keep everybody out until they expire. Nothing that
 * another subject is due is taken: a subject gives up places only to one that has fewer.
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

/**
 * The detached session that is ended for a new one of `subject`; undefined if there is none. It belongs to the subject
 * with the most sessions. These must be at least two more than `subject` has, or `subject` itself has the most: then
 * only a session without processes is ended.
 */
export const displaced = <A extends Candidate>(
  detached: Iterable<A>,
  subjects: Iterable<string>,
  subject: string
): A | undefined => {
  const counts = new Map<string, number>()
  for (const each of subjects) counts.set(each, (counts.get(each) ?? 0) + 1)
  const countOf = (each: string) => counts.get(each) ?? 0
  const mayEnd = (candidate: A) =>
    candidate.subject === subject ? !candidate.hasProcesses : countOf(candidate.subject) > countOf(subject) + 1
  let least: A | undefined
  for (const candidate of detached) {
    if (!mayEnd(candidate)) continue
    const order = least === undefined ? -1 : countOf(least.subject) - countOf(candidate.subject)
    if (least === undefined || order < 0 || (order === 0 && compare(candidate, least) < 0)) least = candidate
  }
  return least
}
