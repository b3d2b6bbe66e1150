/**
 * The name that somebody may have meant.
 *
 * @since 0.1.0
 */

/** How many letters have to be changed, left out, put in or swapped with their neighbour to make one word the other. */
const distance = (a: string, b: string): number => {
  let before: ReadonlyArray<number> = []
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1]
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current[column] = Math.min(
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwapped ? (before[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY
      )
    }
    before = previous
    previous = current
  }
  return previous[b.length] ?? 0
}

/** So many letters may differ in a word of this length: in a short one, almost everything is near. */
const allowed = (length: number) => Math.min(3, Math.floor(length / 3))

/** The longest word that is compared, in characters: no name is longer. */
const maxLength = 64

/** The nearest of several names: the only one that begins like this, or the one with the fewest letters different. */
export const nearest = (given: string, names: ReadonlyArray<string>): string | undefined => {
  if (given.length > maxLength) return undefined
  const word = given.toLowerCase()
  const longer = names.filter((name) => word.length >= 3 && name.startsWith(word))
  if (longer.length === 1) return longer[0]
  let best: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const name of names) {
    const found = distance(word, name)
    if (found < least && found <= allowed(Math.max(word.length, name.length))) {
      best = name
      least = found
    }
  }
  return best
}
