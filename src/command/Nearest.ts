/**
 * Suggests a name for a misspelt one.
 *
 * @since 0.1.0
 */

/** The Damerau-Levenshtein distance: insertions, deletions, substitutions and swaps of neighbours. */
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

/** The largest distance for a word of this length; short words would otherwise match almost anything. */
const allowed = (length: number) => Math.min(3, Math.floor(length / 3))

/** The longest word to compare, in characters; no name is longer. */
const maxLength = 64

/**
 * The name to suggest: the only one with this prefix, or the one with the smallest distance, if that is small enough.
 */
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
