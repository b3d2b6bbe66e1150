/**
 * Values that are made on first use and kept. Making the codecs of every method would noticeably slow the start.
 *
 * @since 0.1.0
 */

/** The values of names. `make` returns undefined for a name without a value; that is not kept. */
export const byName = <A>(make: (name: string) => A | undefined): ((name: string) => A | undefined) => {
  const made = new Map<string, A>()
  return (name) => {
    const known = made.get(name)
    if (known !== undefined) return known
    const value = make(name)
    if (value !== undefined) made.set(name, value)
    return value
  }
}
